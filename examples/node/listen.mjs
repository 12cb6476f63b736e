// node listen.mjs ENDPOINT ... [cluster.pub bot-1.key]: a line of JSON for each change of an account
import { readFileSync, statSync } from "node:fs"; import { uptime } from "node:os";
const stop = (words) => { console.error(`listen.mjs: ${words}`); process.exit(2); };
process.on("uncaughtException", (error) => stop(error.message));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
const [zmq, { Receiver, verdict }] = await Promise.all([import("zeromq"), import("./receiver.mjs")])
  .catch((error) => stop(`run \`npm ci\` in the folder of this program; ${error.message}`));
const given = process.argv.slice(2), endpoints = given.filter((one) => one.includes("://"));
const [server, own] = [".pub", ".key"].map((end) => given.find((one) => one.endsWith(end)));
if (!endpoints.length || given.length !== endpoints.length + (server && own ? 2 : 0))
  stop("give tcp://HOST:PORT and, where the cluster encrypts, its NAME.pub and your own NAME.key");
if (own && !zmq.capability.curve) stop("this build of zeromq cannot encrypt");
if (own && statSync(own).mode & 0o077) stop(`${own} is open to other users of this machine; chmod 600 it`);
const key = (path, line) => readFileSync(path, "utf8").match(line)?.[1] ?? stop(`no key is in ${path}`);
const curve = own && { curveServerKey: key(server, /^[a-z0-9]\S* (\S{40})$/m),
  curvePublicKey: key(own, /^public (\S{40})$/m), curveSecretKey: key(own, /^secret (\S{40})$/m) };
const ahead = uptime() - performance.now() / 1_000; // the one goes on while the machine sleeps, the other is exact
const nowS = () => Math.max(performance.now() / 1_000, uptime() - ahead);
for (const endpoint of endpoints) (async () => {
  const receiver = new Receiver(), shown = new Map(), ipv6 = endpoint.startsWith("tcp://[");
  for (let nextS = 0.1; ; [receiver.patienceS, nextS] = [nextS, Math.min(2 * nextS, 5)]) {
    const socket = new zmq.Subscriber({ ...curve, ipv6, maxMessageSize: 1 << 20, linger: 0 });
    socket.connect(endpoint); socket.subscribe("health/1/state/");
    for (let heardS = nowS(); nowS() - heardS <= receiver.patienceS; show(receiver.accounts, shown)) {
      receiver.turn(nowS()); socket.receiveTimeout = 50; // so soon an expired account is shown; then all that waits
      for (let left = 20_000, frames; left-- && (frames = await socket.receive().catch(() => null)); ) {
        receiver.turn(nowS()); receiver.take(`${frames[0]}`, frames[1], nowS(), Date.now() * 1_000);
        [heardS, nextS, socket.receiveTimeout] = [nowS(), 0.1, 0];
      }
    }
    socket.close();
  }
})();
function show(accounts, shown) {
  for (const [name, { broker, cash, cash_unit, age_ms, sentS, ...rest }] of accounts) {
    const said = { broker, ...verdict({ sentS, ...rest }, nowS()), cash, cash_unit, src: rest.src };
    const words = JSON.stringify(said), age = age_ms === null ? null : Math.round(age_ms + (nowS() - sentS) * 1_000);
    if (shown.get(name) !== words) console.log(JSON.stringify({ ...said, age_ms: age }));
    shown.set(name, words);
  }
}
