// The scenarios of tests/foreign_clients for clients in Node: what to send, what must come back, and what was lost.
//
// A client is an object of functions:
//   call(method, request, { headers, drop })   a unary call; resolves to { code, answer, details }; `drop` cancels it as it starts
//   startLarge(request)                        a call for a large answer: { started, ended, cancel() }, the first two promises,
//                                              of its headers and of what call() resolves to; with read() where the client leaves
//                                              the answer unread until then
//   stream(messages, count, { timeout, end })  StreamDetect: the first message, its answer, the others, then the end once there are
//                                              `count` answers; resolves to { code, answers }
//   settings()                                 other SETTINGS: [name, client, whether it is fit for large answers]; may be absent
//   close()

import { readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";

export const LIMIT_MS = 30_000;
const DETECT = "/mods.v1.InferenceService/Detect";
export const FORECAST = "/mods.v1.InferenceService/Forecast";
const GET_MODEL = "/mods.v1.ModelService/GetModel";
export const STREAM = "/mods.v1.InferenceService/StreamDetect";
const OK = 0;
const DEADLINE_EXCEEDED = 4;
const NOT_FOUND = 5;

export const times = (count, make) => Array.from({ length: count }, (_, index) => make(index));

/** Splits messages, each after a zero byte and its length in four bytes. */
export function split(frames) {
  const messages = [];
  for (let at = 0; at < frames.length; ) {
    const end = at + 5 + frames.readUInt32BE(at + 1);
    messages.push(frames.subarray(at + 5, end));
    at = end;
  }
  return messages;
}

class Count {
  constructor(scenario) {
    Object.assign(this, { scenario, calls: 0, lost: 0, detail: "" });
  }

  add(loss) {
    this.calls += 1;
    if (loss !== null && this.lost++ === 0) this.detail = loss;
  }
}

const equal = (one, other) => one !== undefined && Buffer.compare(one, other) === 0;

class Scenarios {
  constructor(client, folder) {
    const read = (name) => readFileSync(join(folder, name));
    this.client = client;
    this.small = read("small.request");
    this.smallAnswer = read("small.answer");
    this.large = read("large.request");
    this.largeAnswer = read("large.answer");
    this.missing = read("missing.request");
    this.missingDetails = read("missing.details");
    this.streamRequests = split(read("stream.requests"));
    this.streamAnswers = split(read("stream.answers"));
  }

  async check(call, expected) {
    const { code, answer, text } = await call;
    if (code !== OK) return `${code}: ${text}`;
    return equal(answer, expected) ? null : "another answer";
  }

  callSmall(client = this.client, options = {}) {
    return this.check(client.call(DETECT, this.small, options), this.smallAnswer);
  }

  callLarge(client = this.client) {
    return this.check(client.call(FORECAST, this.large, {}), this.largeAnswer);
  }

  async callMissing(client = this.client) {
    const { code, details, text } = await client.call(GET_MODEL, this.missing, {});
    if (code !== NOT_FOUND) return `${code}: ${text}`;
    return equal(details, this.missingDetails) ? null : "other details";
  }

  async unary(count) {
    for (let i = 0; i < 100; ++i) count.add(await this.callSmall());
  }

  async error_details(count) {
    for (let i = 0; i < 20; ++i) count.add(await this.callMissing());
  }

  async deadlines(count) {
    const silent = times(10, () => this.client.stream(this.streamRequests.slice(0, 1), Infinity, { timeout: 300 }));
    for (let i = 0; i < 50; ++i) count.add(await this.callSmall());
    for (const { code, text } of await Promise.all(silent)) count.add(code === DEADLINE_EXCEEDED ? null : `${code}: ${text}`);
    for (let i = 0; i < 10; ++i) count.add(await this.callSmall());
  }

  async cancel_at_start(count) {
    for (let round = 0; round < 15; ++round) {
      const innocent = times(10, () => {
        const call = this.callSmall();
        this.client.call(DETECT, this.small, { drop: true });
        return call;
      });
      for (const loss of await Promise.all(innocent)) count.add(loss);
    }
  }

  async cancel_answers(count) {
    for (let round = 0; round < 3; ++round) {
      const cancelled = times(5, () => this.client.startLarge(this.large));
      const innocent = [...times(5, () => this.callSmall()), ...times(5, () => this.callLarge())];
      await Promise.all(cancelled.map(({ started }) => started));
      cancelled.forEach((call) => call.cancel());
      for (const loss of await Promise.all(innocent)) count.add(loss);
    }
  }

  async large_answers(count) {
    for (const loss of await Promise.all(times(20, () => this.callLarge()))) count.add(loss);
  }

  async metadata(count) {
    const headers = [
      ["x-all-bytes-bin", Buffer.from(times(256, (byte) => byte))],
      ...times(60, (index) => [`x-key-${index}`, "value ".repeat(10) + index]),
      ...times(3, (index) => ["x-twice", `a, b;c="${index}"`]),
    ];
    for (let i = 0; i < 20; ++i) count.add(await this.callSmall(this.client, { headers }));
  }

  async at_once(count) {
    for (const loss of await Promise.all(times(300, () => this.callSmall()))) count.add(loss);
  }

  async stream(count) {
    const expected = this.streamAnswers;
    const { code, answers, text } = await this.client.stream(this.streamRequests, expected.length, { timeout: LIMIT_MS });
    for (let i = 1; i < expected.length; ++i) {
      count.add(equal(answers[i], expected[i]) ? null : `answer ${i} of ${answers.length}, then ${code}: ${text}`);
    }
    count.add(code === OK ? null : `${code}: ${text}`);
  }

  async settings(count) {
    if (this.client.settings === undefined) return "this client sets none";
    for (const [name, other, large] of this.client.settings()) {
      const say = (loss) => (loss === null ? null : `${name}: ${loss}`);
      for (let i = 0; i < 3; ++i) {
        count.add(say(await this.callSmall(other)));
        count.add(say(await this.callMissing(other)));
      }
      if (large) count.add(say(await this.callLarge(other)));
      other.close();
    }
  }

  async drain(count) {
    const calls = times(60, () => this.client.startLarge(this.large));
    await Promise.all(calls.map(({ started }) => started));
    writeSync(1, '{"scenario":"under_way"}\n');
    readSync(0, Buffer.alloc(1)); // blocks all of Node: nothing is read meanwhile
    calls.forEach(({ read }) => read?.());
    for (const loss of await Promise.all(calls.map(({ ended }) => this.check(ended, this.largeAnswer)))) count.add(loss);
  }
}

const NAMES = [
  "unary", "error_details", "deadlines", "cancel_at_start", "cancel_answers", "large_answers", "metadata", "at_once", "stream",
  "settings", "drain",
]; // prettier-ignore

/** Goes through all scenarios and prints one JSON object for each. */
export async function run(client, folder) {
  const scenarios = new Scenarios(client, folder);
  for (const name of NAMES) {
    const count = new Count(name);
    const skipped = await scenarios[name](count);
    console.log(JSON.stringify(skipped === undefined ? count : { scenario: name, skipped }));
  }
  client.close();
}
