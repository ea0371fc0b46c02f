// The scenarios of tests/foreign_clients with HTTP/2 as Node has it (nghttp2), and no gRPC library.
//
//   node http2.js ADDRESS FOLDER

import http2 from "node:http2";
import { PassThrough } from "node:stream";

import { FORECAST, LIMIT_MS, STREAM, run, split } from "./scenarios.js";

const { NGHTTP2_CANCEL } = http2.constants;
const DEADLINE_EXCEEDED = 4;
const UNAVAILABLE = 14;

function frame(message) {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Stands for a stream where the session has ended already. */
class NoStream extends PassThrough {
  constructor() {
    super();
    this.destroy();
  }

  close() {}
}

function makeClient(address, settings = {}) {
  const session = http2.connect(`http://${address}`, { settings });
  session.setMaxListeners(0);
  let failure = "";
  session.on("error", (error) => (failure = `; ${error.message}`));
  session.on("goaway", (code, _, data) => (failure = `; GOAWAY ${code} ${data}`));

  /** Opens a call: { stream, started, ended }, the last two promises of its headers and of how it ended. */
  function open(method, headers, timeout, onData) {
    const fields = { ":method": "POST", ":path": method, te: "trailers", "content-type": "application/grpc" };
    for (const [name, value] of headers) {
      const text = name.endsWith("-bin") ? value.toString("base64") : value;
      fields[name] = name in fields ? [fields[name], text].flat() : text;
    }
    const stream = session.destroyed ? new NoStream() : session.request({ ...fields, "grpc-timeout": `${timeout}m` });
    const started = new Promise((resolve) => stream.once("response", resolve));
    const ended = new Promise((resolve) => {
      let status = { code: UNAVAILABLE, text: "no status" };
      const timer = setTimeout(() => {
        status = { code: DEADLINE_EXCEEDED, text: "in the client" };
        stream.close(NGHTTP2_CANCEL);
      }, timeout + 1000); // the server has to end it before
      const take = (trailers) => {
        if (trailers["grpc-status"] === undefined) return;
        const details = trailers["grpc-status-details-bin"];
        status = { code: Number(trailers["grpc-status"]), text: decodeURIComponent(trailers["grpc-message"] ?? "") };
        if (details !== undefined) status.details = Buffer.from(details, "base64");
      };
      stream.on("response", take);
      stream.on("trailers", take);
      stream.on("error", (error) => (status.text += `; ${error.message}`));
      stream.on("close", () => {
        clearTimeout(timer);
        if (status.code !== 0) status.text += failure;
        resolve(status);
      });
    });
    if (onData !== undefined) stream.on("data", onData);
    return { stream, started: Promise.race([started, ended]), ended };
  }

  function callOnce(method, request, { headers = [], drop = false, paused = false }) {
    const parts = [];
    const { stream, started, ended } = open(method, headers, LIMIT_MS);
    stream.end(frame(request));
    if (drop) stream.close(NGHTTP2_CANCEL);
    const read = () => stream.on("data", (part) => parts.push(part));
    if (!paused) read();
    const answered = ended.then((status) => ({ ...status, answer: split(Buffer.concat(parts))[0] }));
    return { started, ended: answered, read, cancel: () => stream.close(NGHTTP2_CANCEL) };
  }

  return {
    call: (method, request, options) => callOnce(method, request, options).ended,
    startLarge: (request) => callOnce(FORECAST, request, { paused: true }),

    stream: async (messages, count, { timeout }) => {
      let received = Buffer.alloc(0);
      let answers = [];
      const { stream, ended } = open(STREAM, [], timeout, (part) => {
        received = Buffer.concat([received, part]);
        const before = answers.length;
        answers = split(received);
        if (before === 0 && answers.length > 0) for (const message of messages.slice(1)) stream.write(frame(message));
        if (before < count && answers.length === count) stream.end();
      });
      stream.write(frame(messages[0]));
      return { ...(await ended), answers };
    },

    close: () => session.destroy(),
  };
}

const [address, folder] = process.argv.slice(2);
const client = makeClient(address);
client.settings = () => [
  ["no header table", makeClient(address, { headerTableSize: 0 }), true],
  ["header table of 1", makeClient(address, { headerTableSize: 1 }), true],
  ["header table of 100", makeClient(address, { headerTableSize: 100 }), true],
  ["header table of 65,536", makeClient(address, { headerTableSize: 65_536 }), true],
  ["window of 1", makeClient(address, { initialWindowSize: 1 }), false],
  ["window of 1,000", makeClient(address, { initialWindowSize: 1000 }), true],
  ["window of 2^31 - 1", makeClient(address, { initialWindowSize: 2 ** 31 - 1 }), true],
  ["frames up to 2^24 - 1", makeClient(address, { maxFrameSize: 2 ** 24 - 1, initialWindowSize: 2 ** 24 }), true],
  ["header lists up to 1,000, no push", makeClient(address, { maxHeaderListSize: 1000, enablePush: false }), true],
  ["two settings of no name", makeClient(address, { customSettings: { 9999: 1, 12345: 2 ** 32 - 1 } }), true],
];
await run(client, folder);
