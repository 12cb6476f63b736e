// What to believe of each account, by the rules in docs/wire.md. It reads no clock: the time is an argument.
import { Decoder } from "@msgpack/msgpack";
const LONGEST_TTL_S = 1_201, AHEAD_US = 400 * 86_400e6, MOST_SENDERS = 1_000, MOST_ACCOUNTS = 100_000;
const REASONS = ["config", "shutdown", "held_out", "failed", "never_seen", "blind", "silent", "restarting", "loop",
  "claim", "locked_out", "auth", "errors", "local_network", "maintenance", "recovering", "unproven", "ok", "nothing_heard"];
const ENVELOPE = { v: /^1$/, type: /^"(reading|roster|balance_seen|fetch_failed|broker_alive)"$/, src: /^".{1,128}"$/u,
  epoch: /^"[0-9]{16}-[0-9a-f]{8}"$/, seq: /^[1-9][0-9]*$/, up_us: /^[0-9]+$/, ttl_ms: /^[0-9]+$/ };
const READING = { broker: /^"[a-z0-9][a-z0-9_-]{0,47}"$/, available: /^(true|false)$/, reason: /^".{1,64}"$/u,
  cash: /^(null|"-?[0-9]{1,30}(\.[0-9]{1,18})?")$/, age_ms: /^(null|[0-9]+)$/, proof_ms: /^(undefined|null|[0-9]+)$/ };
class Bytes extends Decoder { // JavaScript takes 1.0 for 1, and the wire does not: a float becomes a list
  readF32() { return [super.readF32()]; } readF64() { return [super.readF64()]; }
}
export function decode(body) { // a message; throws for anything else
  const bytes = new Bytes({ maxStrLength: 4_096, maxBinLength: 0, maxExtLength: 0 });
  const message = body.length <= 1 << 20 ? bytes.decode(body) : null;
  const readings = message.type === "roster" ? message.data.readings : [message.data];
  for (const [found, keys] of [[message, ENVELOPE], ...readings.map((each) => [each, READING])])
    for (const key in keys) if (!keys[key].test(JSON.stringify(found[key]))) throw new Error(`${key} is wrong`);
  for (const each of readings) if (!REASONS.includes(each.reason)) each.reason = "other";
  return message;
}
export class Receiver { // of one endpoint
  senders = new Map(); accounts = new Map(); lost = 0; unreadable = 0; patienceS = 5;
  turn(nowS) { // before you take what is there: after you were held up it is a backlog
    if (nowS - this.turnedS > 2) [this.sinceS, this.lateUntilS] = [this.turnedS, nowS + 1]; this.turnedS = nowS; }
  take(topic, body, nowS, wallUs) { // whether the message counts
    let message; try { message = decode(body); } catch { this.unreadable += 1; return false; }
    const { src, epoch, seq, up_us, type, data } = message, ttlS = Math.min(message.ttl_ms / 1_000, LONGEST_TTL_S);
    const key = `${src} ${data.broker}`, isFull = (map, one, most) => !map.has(one) && map.size >= most;
    this.patienceS = Math.max(0.5, 5 * (ttlS - 1) / 4); // five heartbeats
    if (type !== "reading" || Number(epoch.slice(0, 16)) - wallUs > AHEAD_US ||
      isFull(this.senders, src, MOST_SENDERS) || isFull(this.accounts, key, MOST_ACCOUNTS)) return false;
    let sender = this.senders.get(src) ?? {};
    if (epoch < sender.epoch && nowS < sender.untilS) return false;
    if (epoch !== sender.epoch) sender = { epoch, untilS: -Infinity, quickestS: Infinity, run: {}, last: new Map() };
    const lateS = nowS - up_us / 1e6, quickestS = Math.min(sender.quickestS, lateS); // the smallest difference
    const isUndated = sender.quickestS === Infinity && nowS < this.lateUntilS; // it may have waited as long as you
    const sentS = isUndated ? this.sinceS : nowS - (lateS - quickestS), untilS = sentS + ttlS;
    const last = sender.last.get(topic) ?? { seq: seq - 1 };
    let { sinceS, leastS, mostS, count } = sender.run; // for how long the messages came equally late
    [leastS, mostS, count] = [Math.min(leastS, lateS), Math.max(mostS, lateS), count + 1];
    if (!(nowS - sinceS <= 120 && mostS - leastS <= 0.5)) [sinceS, leastS, mostS, count] = [nowS, lateS, lateS, 1];
    this.senders.set(src, Object.assign(sender, !isUndated && { run: { sinceS, leastS, mostS, count },
      quickestS: count >= 10 && nowS - sinceS >= 60 ? Math.max(quickestS, leastS) : quickestS }));
    if (seq <= last.seq && untilS <= last.untilS + 0.001) return false;
    this.lost += Math.max(0, seq - last.seq - 1);
    sender.untilS = ttlS ? Math.max(sender.untilS, untilS) : nowS; // a ttl of 0 is a farewell: nothing older follows
    sender.last.set(topic, { seq, untilS: ttlS ? untilS : nowS + LONGEST_TTL_S });
    const { cash, cash_unit, age_ms, sentS: beforeS } = this.accounts.get(key) ?? {}; // a `src` that begins anew may
    const kept = data.age_ms === null && age_ms >= 0 && { cash, cash_unit, age_ms: age_ms + (sentS - beforeS) * 1e3 };
    return !!this.accounts.set(key, { ...data, ...kept, src, sentS, untilS }); // know no balance: the last known stays
  }
}
export function verdict({ available, reason, untilS, sentS, proof_ms }, nowS) {
  if (nowS >= untilS) return { available: false, reason: reason === "shutdown" ? reason : "nothing_heard" };
  const proven = !available || nowS < sentS + (proof_ms ?? Infinity) / 1_000;
  return proven ? { available, reason } : { available: false, reason: "unproven" };
}
