// The scenarios of tests/foreign_clients with @grpc/grpc-js.
//
//   node grpc_js.js ADDRESS FOLDER

import grpc from "@grpc/grpc-js";

import { FORECAST, LIMIT_MS, STREAM, run } from "./scenarios.js";

const same = (bytes) => bytes;
const deadline = () => ({ deadline: Date.now() + LIMIT_MS });

function makeClient(address, options = {}) {
  const client = new grpc.Client(address, grpc.credentials.createInsecure(), options);
  return {
    call: (method, request, { headers = [], drop = false }) =>
      new Promise((resolve) => {
        const metadata = new grpc.Metadata();
        for (const [name, value] of headers) metadata.add(name, value);
        const call = client.makeUnaryRequest(method, same, same, request, metadata, deadline(), (error, answer) =>
          resolve({
            code: error?.code ?? 0,
            text: error?.details,
            answer,
            details: error?.metadata.get("grpc-status-details-bin")[0],
          }),
        );
        if (drop) call.cancel();
      }),

    startLarge: (request) => {
      let call;
      const ended = new Promise((resolve) => {
        call = client.makeUnaryRequest(FORECAST, same, same, request, new grpc.Metadata(), deadline(), (error, answer) =>
          resolve({ code: error?.code ?? 0, text: error?.details, answer }),
        );
      });
      const started = Promise.race([new Promise((resolve) => call.once("metadata", resolve)), ended]);
      return { started, ended, cancel: () => call.cancel() };
    },

    stream: (messages, count, { timeout }) =>
      new Promise((resolve) => {
        const call = client.makeBidiStreamRequest(STREAM, same, same, new grpc.Metadata(), { deadline: Date.now() + timeout });
        const answers = [];
        call.on("error", () => {});
        call.on("data", (message) => {
          answers.push(message);
          if (answers.length === 1) messages.slice(1).forEach((next) => call.write(next));
          if (answers.length === count) call.end();
        });
        call.on("status", ({ code, details }) => resolve({ code, text: details, answers }));
        call.write(messages[0]);
      }),

    close: () => client.close(),
  };
}

const [address, folder] = process.argv.slice(2);
const client = makeClient(address);
client.settings = () => [
  ["window of 65,535", makeClient(address, { "grpc-node.flow_control_window": 65_535 }), true],
  ["window of 16 MiB", makeClient(address, { "grpc-node.flow_control_window": 16 << 20 }), true],
  ["metadata up to 1,000", makeClient(address, { "grpc.max_metadata_size": 1000 }), true],
];
await run(client, folder);
