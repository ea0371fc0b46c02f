// The scenarios of tests/foreign_clients with @connectrpc/connect-node, over the gRPC protocol.
//
//   node connect_node.js ADDRESS FOLDER

import { readFileSync } from "node:fs";

import { createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, decodeBinaryHeader, encodeBinaryHeader } from "@connectrpc/connect";
import { Http2SessionManager, createGrpcTransport } from "@connectrpc/connect-node";

import { FORECAST, LIMIT_MS, STREAM, run } from "./scenarios.js";

const PROTOSET = new URL("../../../../mods_grpc/v1/mods.v1.protoset", import.meta.url);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(PROTOSET)));

function describe(path) {
  const [, service, name] = path.split("/");
  return registry.getService(service).methods.find((method) => method.name === name);
}

function explain(error) {
  const { code, rawMessage, metadata } = ConnectError.from(error, Code.Unknown);
  const details = metadata.get("grpc-status-details-bin");
  return { code, text: rawMessage, details: details === null ? undefined : Buffer.from(decodeBinaryHeader(details)) };
}

function makeClient(address, settings = undefined) {
  const baseUrl = `http://${address}`;
  const sessionManager = new Http2SessionManager(baseUrl, {}, { settings });
  const transport = createGrpcTransport({ baseUrl, sessionManager, defaultTimeoutMs: LIMIT_MS });

  const call = async (path, request, { headers = [], drop = false, abort = new AbortController(), onHeader = () => {} }) => {
    const method = describe(path);
    const client = createClient(method.parent, transport);
    const metadata = new Headers();
    for (const [name, value] of headers) metadata.append(name, name.endsWith("-bin") ? encodeBinaryHeader(value) : value);
    try {
      const options = { headers: metadata, signal: abort.signal, onHeader };
      const called = client[method.localName](fromBinary(method.input, request), options);
      if (drop) abort.abort();
      return { code: 0, answer: Buffer.from(toBinary(method.output, await called)) };
    } catch (error) {
      return explain(error);
    }
  };

  return {
    call,

    startLarge: (request) => {
      const abort = new AbortController();
      let ended;
      const started = new Promise((resolve) => {
        ended = call(FORECAST, request, { abort, onHeader: resolve });
        ended.then(resolve);
      });
      return { started, ended, cancel: () => abort.abort() };
    },

    stream: async (messages, count, { timeout }) => {
      const { parent, localName, input, output } = describe(STREAM);
      const answers = [];
      let opened, answered;
      const [open, complete] = [new Promise((resolve) => (opened = resolve)), new Promise((resolve) => (answered = resolve))];
      async function* requests() {
        yield fromBinary(input, messages[0]);
        await open;
        for (const message of messages.slice(1)) yield fromBinary(input, message);
        await complete;
      }
      try {
        for await (const answer of createClient(parent, transport)[localName](requests(), { timeoutMs: timeout })) {
          answers.push(Buffer.from(toBinary(output, answer)));
          opened();
          if (answers.length === count) answered();
        }
        return { code: 0, answers };
      } catch (error) {
        return { ...explain(error), answers };
      }
    },

    close: () => sessionManager.abort(),
  };
}

const [address, folder] = process.argv.slice(2);
const client = makeClient(address);
client.settings = () => [
  ["no header table", makeClient(address, { headerTableSize: 0 }), true],
  ["header table of 100", makeClient(address, { headerTableSize: 100 }), true],
  ["window of 1,000", makeClient(address, { initialWindowSize: 1000 }), true],
  ["frames up to 1 MiB", makeClient(address, { maxFrameSize: 1 << 20, initialWindowSize: 1 << 20 }), true],
  ["header lists up to 1,000", makeClient(address, { maxHeaderListSize: 1000, enablePush: false }), true],
];
await run(client, folder);
