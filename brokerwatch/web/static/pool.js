// The nodes of a pool, and which of them has which account. Without a pool this asks once.
const section = document.getElementById("pool");
const made = (tag, text, kind = "") => Object.assign(document.createElement(tag), { textContent: text, className: kind });
const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

function rows(told) {
  const of = new Map(told.nodes.map((node) => [node.node, []]));
  const lost = [];
  for (const claim of told.claims) (claim.held && of.get(claim.node) || lost).push(claim);
  const items = told.nodes.map((node) => {
    const item = document.createElement("li"), labels = Object.entries(node.labels).map((label) => label.join("="));
    const words = [many(node.keys, "API key"), `capacity ${node.capacity}`, ...labels, ...(node.egress ? [`from ${node.egress}`] : [])];
    item.append(made("strong", node.node), made("span", words.join(" · "), "muted"), owned(of.get(node.node)));
    return item;
  });
  if (lost.length) {
    const item = document.createElement("li");
    item.append(made("strong", "no node"), made("span", "their claims are over", "wrong"), owned(lost));
    items.push(item);
  }
  return items;
}
const owned = (claims) => made("p", claims.map((claim) => `${claim.accounts.join(", ")} (epoch ${claim.epoch})`).sort().join(", "), "owned");

async function ask() {
  const answer = await fetch("/v1/pool").catch(() => null);
  if (answer?.ok) {
    const told = await answer.json();
    if (!told.pool) return;
    section.querySelector("h2").textContent = `Nodes of the pool ${told.pool}`;
    section.querySelector("ul").replaceChildren(...rows(told));
    section.querySelector("p").textContent = told.nodes.length ? "" : "No node of the pool lives.";
    section.hidden = false;
  } else if (!section.hidden) section.querySelector("p").textContent = "What the database says of the pool cannot be read now; what stands here is older.";
  setTimeout(ask, 3000);
}
ask();
