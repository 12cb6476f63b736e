// What the example for Node makes of bodies and stories such as those in docs/wire/vectors: JSON in, JSON out.
import { readFileSync } from "node:fs";
import { Receiver, decode, verdict } from "../../examples/node/receiver.mjs";

const given = JSON.parse(readFileSync(0, "utf8"));

const bodies = given.bodies.map((body) => {
  try {
    return { becomes: decode(Buffer.from(body, "hex")) };
  } catch (error) {
    return { becomes: null, why: error.message };
  }
});

const stories = given.stories.map(({ starts_us, steps }) => {
  const receiver = new Receiver();
  return steps.map(({ at_ms, topic, body, held_up }, number) => {
    const nowS = at_ms / 1_000;
    if (held_up) {
      receiver.turn(steps[number - 1].at_ms / 1_000);
      receiver.turn(nowS);
    }
    const taken = body && receiver.take(topic, Buffer.from(body, "hex"), nowS, starts_us + at_ms * 1_000);
    const believed = [...receiver.accounts.values()].map((account) => {
      const { available, reason } = verdict(account, nowS);
      return [account.broker, { available, reason, version: account.version }];
    });
    return { taken, believed: Object.fromEntries(believed), lost: receiver.lost };
  });
});

console.log(JSON.stringify({ bodies, stories }));
