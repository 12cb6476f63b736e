// The page. It hears /v1/events, and asks /v1/timeline each half minute. Whatever it shows goes through textContent.
const KINDS = {
  ok: "available", errors: "errors", maintenance: "maintenance", locked_out: "locked out",
  held: "held by an operator", blind: "brokerwatch itself was blind", unheard: "not watched",
};
const DEAF_MS = 4000, CLUSTER_DEAF_MS = 15000; // the server ticks each second
const $ = (id) => document.getElementById(id);
const shown = new Map(); // account name to what is on screen
let heardAt = -Infinity, clusterMs = null, clockAhead = 0, since = null; // the last words of the server
let events = null, operable = false, span = "24h", isDeaf = null;

// --- words ------------------------------------------------------------------------------------------------
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const flag = (node, name, value) => { if (node.dataset[name] !== value) node.dataset[name] = value; };
function lasting(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const m = Math.floor(s / 60), h = Math.floor(m / 60);
  return m < 1 ? `${s} s` : h < 1 ? `${m} min` : h < 24 ? `${h} h${m % 60 ? ` ${m % 60} min` : ""}` : `${Math.floor(h / 24)} d${h % 24 ? ` ${h % 24} h` : ""}`;
}
const exactly = (ms) => (ms === null ? "–" : ms < 1000 ? `${ms} ms` : ms < 10000 ? `${(ms / 1000).toFixed(1)} s` : lasting(ms));
function clock(us) {
  const at = new Date(us / 1000), now = new Date();
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return at.toDateString() === now.toDateString() ? time : `${at.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}
function money(text) { // as text, never as a float
  const [whole, part = ""] = text.split(".");
  const cut = part.replace(/0+$/, "").padEnd(2, "0");
  return `${whole.replace(/\B(?=(\d{3})+$)/g, "\u202f")}.${cut}`;
}
// Rounded down: 99.999 % is not 100 %.
const percent = (share) => (share === null ? "–" : share === 1 ? "100 %" : `${(Math.floor(share * 10000) / 100).toFixed(2)} %`);
const serverNow = () => Date.now() + clockAhead;

// --- accounts ---------------------------------------------------------------------------------------------
function card(name) {
  const made = $("account").content.firstElementChild.cloneNode(true);
  const at = {};
  for (const node of made.querySelectorAll("[data-is]")) at[node.dataset.is] = node;
  const row = { root: made, at, bar: made.querySelector(".bar"), cells: [], told: null, toldAt: 0, cursor: -1 };
  made.id = `a-${name}`;
  put(at.name, name);
  row.bar.setAttribute("aria-label", `Timeline of ${name}`);
  row.bar.addEventListener("keydown", (key) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[key.key];
    if (step === undefined) return;
    key.preventDefault();
    point(row, Math.max(0, row.cursor < 0 ? row.cells.length - 1 : row.cursor + step));
  });
  row.bar.addEventListener("pointermove", (move) => {
    const box = row.bar.getBoundingClientRect();
    point(row, Math.floor((move.clientX - box.left) / box.width * row.cells.length));
  });
  for (const end of ["pointerleave", "blur"]) row.bar.addEventListener(end, () => point(row, -1));
  at.operate.addEventListener("click", () => (row.told.reason === "held_out" ? release(name) : hold(name)));
  return row;
}
function take(account) {
  const row = shown.get(account.broker) ?? card(account.broker);
  if (!shown.has(account.broker)) {
    shown.set(account.broker, row);
    $("accounts").insertBefore(row.root, [...$("accounts").children].find((other) => other.id > row.root.id) ?? null);
  }
  if (row.told?.kind !== account.kind) askPastSoon(row.told ? 2500 : 300);
  show(Object.assign(row, { told: account, toldAt: performance.now() }));
}
function show(row) {
  const { told, at, root } = row;
  const kind = isDeaf ? "unheard" : told.kind;
  if (root.dataset.kind !== kind) set(root.querySelector("use"), { href: `#i-${kind}` });
  flag(root, "kind", kind);
  put(at.exchange, [told.exchange, ...Object.entries(told.labels).map((label) => label.join(":\u00a0"))].join(" · "));
  put(at.simulated, told.simulated ? "simulated" : "");
  put(at.verdict, isDeaf ? "Not known" : told.available ? "Available" : "Not available");
  put(at.reason, isDeaf ? `when last heard: ${told.meaning}` : told.meaning);
  put(at.detail, at.detail.title = told.detail === told.meaning ? "" : told.detail);
  put(at.helps, told.helps);
  put(at.key, [...(told.key?.warnings ?? []), ...(told.money ?? [])].map((each) => each.detail || `${each.currency ?? ""} ${each.word.replaceAll("_", " ")}`.trim()).join("; "));
  put(at.cash, told.cash === null ? `unknown: ${told.unknown}` : `${money(told.cash)} ${told.cash_unit}`);
  flag(at.cash, "known", told.cash === null ? "no" : "yes");
  at.operate.hidden = !operable;
  put(at.operate, told.reason === "held_out" ? "Release" : "Hold …");
  at.operate.setAttribute("aria-label", `${told.reason === "held_out" ? "Release" : "Hold"} ${told.broker}`);
  age(row);
}
function age(row) {
  const { told, at } = row;
  put(at.since, `since ${clock(told.since_us)}, for ${lasting(serverNow() - told.since_us / 1000)}`);
  if (told.age_ms === null) return put(at.age, "");
  const ms = told.age_ms + performance.now() - row.toldAt;
  const stale = told.stale || isDeaf || (told.max_age_ms !== null && ms > told.max_age_ms);
  put(at.age, stale ? `last known, ${lasting(ms)} old` : `${lasting(ms)} old`);
  flag(at.age, "stale", stale ? "yes" : "no");
}
function sum() {
  const out = [...shown.values()].filter((row) => !row.told.available).sort((one, two) => (one.root.id < two.root.id ? -1 : 1));
  const [count, words] = $("count").children;
  put(count, isDeaf ? "?" : shown.size ? `${shown.size - out.length} of ${shown.size}` : "–");
  put(words, isDeaf ? "not known while nothing is heard" : !shown.size ? "no account was heard yet" : shown.size === 1 ? "account available" : "accounts available");
  document.title = `${isDeaf ? "?" : shown.size - out.length}/${shown.size} available · brokerwatch`;
  const links = $("troubles"), wanted = (isDeaf ? [] : out).map((row) => [row.root.id, `${row.told.broker}: ${KINDS[row.told.kind]}`]);
  if (links.dataset.is === JSON.stringify(wanted)) return;
  links.dataset.is = JSON.stringify(wanted);
  links.replaceChildren(...wanted.map(([id, text]) => Object.assign(document.createElement("a"), { href: `#${id}`, textContent: text })));
}

// --- the time before now ----------------------------------------------------------------------------------
const set = (node, values) => { for (const [key, value] of Object.entries(values)) node.setAttribute(key, value); return node; };
const draw = (name, values) => set(document.createElementNS("http://www.w3.org/2000/svg", name), values);
const fill = (kind) => (kind === "ok" ? { class: "k-ok" } : { fill: `url(#p-${kind})` });
function past(row, line, all) {
  const { at } = row;
  const begin = all.from_us / 1000, length = (all.until_us - all.from_us) / 1000;
  row.cells = line.bar.flatMap((run) => Array(run.cells).fill(run.parts));
  row.times = [begin, length];
  const rects = [];
  let place = 0;
  for (const { cells, parts } of line.bar) {
    // What is not good is never too thin to be seen.
    const tall = Object.entries(parts).map(([kind, share]) => [kind, kind === "ok" ? share : Math.max(share, 0.2)]);
    const whole = tall.reduce((total, [, share]) => total + share, 0);
    let top = 100;
    for (const [kind, share] of tall) {
      const height = share / whole * 100;
      top -= height;
      rects.push(draw("rect", { x: `${place / all.cells * 100}%`, width: `${cells / all.cells * 100}%`, y: `${top}%`, height: `${height}%`, ...fill(kind) }));
    }
    place += cells;
  }
  row.bar.querySelector("g").replaceChildren(...rects);
  row.bar.setAttribute("aria-valuemax", all.cells);
  put(at.begin, `${{ "24h": "24 h", "7d": "7 days", "30d": "30 days" }[all.window]} ago`);
  put(at.availability, percent(line.availability));
  put(at.recovery, exactly(line.recovery_ms));
  put(at.worst, exactly(line.worst_ms));
  put(at.answer, exactly(line.answer_p95_ms));
  point(row, row.cursor);
  balance(row, line, all.cells);
}
function balance(row, line, count) {
  const known = line.cash.filter((run) => run.cash !== null);
  const numbers = known.map((run) => Number(run.cash)); // for the drawing alone
  const low = Math.min(...numbers), high = Math.max(...numbers);
  const y = (cash) => (high === low ? 20 : 37 - (Number(cash) - low) / (high - low) * 34);
  let path = "", area = "", place = 0, pen = false;
  for (const { cells, cash } of line.cash) {
    const from = place / count * 100, to = (place + cells) / count * 100;
    if (cash !== null) {
      path += `${pen ? "L" : "M"}${from} ${y(cash)}H${to}`;
      area += `M${from} 40V${y(cash)}H${to}V40Z`;
    }
    pen = cash !== null;
    place += cells;
  }
  row.root.querySelector(".line").setAttribute("d", path);
  row.root.querySelector(".area").setAttribute("d", area);
  const of = (number) => money(known[numbers.indexOf(number)].cash);
  put(row.at.money, !known.length ? "No cash is known of this time." : low === high ? `Cash: unchanged at ${of(low)} ${line.cash_unit}`
    : `Cash: from ${of(low)} to ${of(high)} ${line.cash_unit}`);
  row.root.querySelector("figure").hidden = !known.length;
}
function point(row, place) {
  const count = row.cells.length, cursor = row.bar.querySelector(".cursor");
  row.cursor = Math.min(count - 1, place);
  if (row.cursor < 0) {
    set(cursor, { width: 0 });
    set(row.bar, { "aria-valuenow": count || 1, "aria-valuetext": `${row.at.availability.textContent} available; arrow keys show each time` });
    return put(row.at.moment, "");
  }
  const [begin, length] = row.times, from = begin + length * row.cursor / count;
  const parts = Object.entries(row.cells[row.cursor]).map(([kind, share]) => (share === 1 ? KINDS[kind] : `${KINDS[kind]} ${percent(share)}`));
  const words = `${clock(from * 1000).slice(0, -3)} – ${clock((from + length / count) * 1000).slice(0, -3)}: ${parts.join(", ")}`;
  set(cursor, { x: `${row.cursor / count * 100}%`, width: `${100 / count}%` });
  set(row.bar, { "aria-valuenow": row.cursor + 1, "aria-valuetext": words });
  put(row.at.moment, words);
}
function askPastSoon(ms) {
  if (performance.now() + ms >= pastDue) return; // it is asked sooner
  clearTimeout(pastTimer);
  pastTimer = setTimeout(askPast, ms);
  pastDue = performance.now() + ms;
}
async function askPast() {
  pastDue = Infinity;
  try {
    const told = await said(await fetch(`/v1/timeline?window=${span}`));
    for (const line of told.brokers) if (shown.has(line.broker)) past(shown.get(line.broker), line, told);
    $("past").hidden = true;
  } catch (error) {
    put($("past"), `The time before now cannot be shown: ${error.message}`);
    $("past").hidden = isDeaf;
  }
  askPastSoon(30000);
}

// --- what an operator says --------------------------------------------------------------------------------
const post = (path, body) => fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
async function said(answer) {
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}
const wrong = (dialog, text) => put($(dialog).querySelector(".wrong"), text);
let toastTimer = 0, pastTimer = 0, pastDue = Infinity;
function toast(text) {
  put($("said"), text);
  $("said").hidden = !text;
  clearTimeout(toastTimer);
  if (text) toastTimer = setTimeout(toast, 6000, "");
}
async function operate(name, verb, body) {
  toast((await said(await post(`/v1/brokers/${encodeURIComponent(name)}/${verb}`, body))).said);
}
function hold(name) {
  put($("hold-title"), `Hold ${name}`);
  $("hold").dataset.name = name;
  wrong("hold", $("why").value = "");
  $("hold").showModal();
}
const release = (name) => operate(name, "release", {}).catch((error) => toast(error.message));
$("hold-no").addEventListener("click", () => $("hold").close());
$("hold").addEventListener("submit", (event) => {
  event.preventDefault();
  const hours = Number($("until").value);
  const until = hours ? Math.round((serverNow() + hours * 36e5) * 1000) : null;
  operate($("hold").dataset.name, "hold", { why: $("why").value, until_us: until }).then(() => $("hold").close(), (error) => wrong("hold", error.message));
});
$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await post("/v1/login", { token: $("token").value }).catch(() => null);
  $("logout").hidden = !answer?.ok;
  if (!answer?.ok) return wrong("login", answer ? (await answer.json()).error : "the server does not answer");
  $("token").value = "";
  $("login").close();
  connect();
});
$("login").addEventListener("cancel", (event) => event.preventDefault()); // without it there is nothing to see
$("logout").addEventListener("click", async () => { await post("/v1/logout", {}); location.reload(); });

// --- what is heard ----------------------------------------------------------------------------------------
function heard(now_us, heard_ms) {
  heardAt = performance.now();
  clusterMs = heard_ms;
  clockAhead = now_us / 1000 - Date.now();
  since = new Date();
}
async function connect() {
  events?.close();
  const again = () => setTimeout(connect, 2000);
  const answer = await fetch("/v1/brokers").catch(() => null);
  if (!answer) return again();
  if (answer.status === 401) return $("login").open || $("login").showModal();
  if (!answer.ok) {
    put($("link-words"), (await answer.json().catch(() => ({}))).error ?? "the server does not answer");
    return again();
  }
  events = new EventSource("/v1/events");
  events.addEventListener("accounts", ({ data }) => {
    const told = JSON.parse(data);
    heard(told.now_us, told.heard_ms);
    operable = told.operable;
    $("logout").hidden = $("logout").hidden && !operable; // operators have logged in
    const names = new Set(told.brokers.map((each) => each.broker));
    for (const [name, row] of shown) if (!names.has(name)) { row.root.remove(); shown.delete(name); }
    told.brokers.forEach(take);
    put($("cluster"), [...new Set(told.brokers.map((each) => each.source.replace("supervisor/", "")))].join(", "));
    tick();
  });
  events.addEventListener("account", ({ data }) => { take(JSON.parse(data)); sum(); });
  events.addEventListener("tick", ({ data }) => { const told = JSON.parse(data); heard(told.now_us, told.heard_ms); tick(); });
  events.onerror = () => { if (events.readyState === EventSource.CLOSED) again(); };
}
function tick() {
  const silent = performance.now() - heardAt, deaf = silent > DEAF_MS;
  const away = clusterMs === null ? null : clusterMs + silent, isGone = (row) => ["nothing_heard", "shutdown"].includes(row.told.reason);
  const clusterDeaf = !deaf && (away === null || away > CLUSTER_DEAF_MS || shown.size > 0 && [...shown.values()].every(isGone));
  if (since === null) return;
  if (deaf && silent > CLUSTER_DEAF_MS && events?.readyState === EventSource.OPEN) connect(); // the line is dead
  flag($("link"), "hears", deaf || clusterDeaf ? "no" : "yes");
  put($("link-words"), deaf ? `this page hears nothing for ${lasting(silent)}` : clusterDeaf ? `cluster not heard ${away === null ? "yet" : `for ${lasting(away)}`}` : `this page hears the cluster: ${lasting(away)} ago`);
  $("deaf").hidden = !(deaf || clusterDeaf);
  put($("deaf"), deaf ? `This page hears nothing since ${clock(since * 1000)}. What stands below was true then, and may be wrong now.`
    : clusterDeaf ? "This page works, and nothing is heard from the cluster. Does it run?" : "");
  if (deaf !== isDeaf) {
    isDeaf = deaf;
    document.body.toggleAttribute("data-deaf", deaf);
    shown.forEach(show);
  } else shown.forEach(age);
  sum();
}
for (const choice of document.querySelectorAll("[name=window]")) choice.addEventListener("change", () => { span = choice.value; askPast(); });
$("legend").append(...Object.entries(KINDS).map(([kind, words]) => {
  const item = document.createElement("li"), sample = draw("svg", { "aria-hidden": "true" });
  sample.append(draw("rect", { width: "100%", height: "100%", ...fill(kind) }));
  item.append(sample, words);
  return item;
}));
setInterval(tick, 1000);
connect();
