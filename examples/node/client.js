// A client of mods-grpc in Node: lists the models, forecasts, detects anomalies in rows, and streams observations.
//
//   node client.js [ADDRESS]            (default 127.0.0.1:50051)
//
// Prints one JSON object per line. The messages come from mods.v1.protoset, the compiled form of protos/.

import { readFileSync } from "node:fs";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const PROTOSET = new URL("../../mods_grpc/v1/mods.v1.protoset", import.meta.url);
const LOAD_OPTIONS = { longs: String, enums: String, defaults: false, oneofs: true };
const DEADLINE_MS = 10_000;
const FIRST_ROW_SECONDS = 1_546_300_800; // 2019-01-01T00:00:00Z
const SCORED_ROWS = 12;

const definitions = protoLoader.loadFileDescriptorSetFromBuffer(readFileSync(PROTOSET), LOAD_OPTIONS);
const { InferenceService, ModelService } = grpc.loadPackageDefinition(definitions).mods.v1;

function print(what, value) {
  console.log(JSON.stringify({ what, ...value }));
}

/** Calls a unary method and resolves to its response. */
function call(client, method, request) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + DEADLINE_MS;
    client[method](request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** Makes normal rows in the middle of the training range; the last one is twenty times the training maximum. */
function makeRows(model, count) {
  const slide = Number(model.slide.seconds);
  return Array.from({ length: count }, (_, row) => ({
    series: "node-example",
    observe_time: { seconds: String(FIRST_ROW_SECONDS + row * slide) },
    values: model.features.map(({ training_minimum: low = 0, training_maximum: high = 0 }) =>
      Math.round(row === count - 1 ? 20 * high : ((low + high) / 2) * (1 + 0.02 * Math.sin(row))),
    ),
  }));
}

/** Streams rows one by one: each is sent when the verdict on the one before has arrived. */
function stream(client, model, rows) {
  return new Promise((resolve, reject) => {
    const verdicts = [];
    const open = client.StreamDetect();
    const sendNext = () => {
      if (verdicts.length < rows.length) {
        open.write({ data: { sequence: String(verdicts.length + 1), observation: rows[verdicts.length] } });
      } else {
        open.write({ end: {} });
      }
    };
    open.on("data", (response) => {
      if (response.message === "opened") {
        print("opened", { features: response.opened.features, state: response.opened.state });
        sendNext();
      } else if (response.message === "answer") {
        verdicts.push(response.answer.verdict);
        sendNext();
      } else if (response.message === "ended") {
        open.end();
      }
    });
    open.on("error", reject);
    open.on("end", () => resolve(verdicts));
    open.write({ config: { model: { name: model.name }, sensor: `node-${process.pid}`, explain: "EXPLAIN_ANOMALIES" } });
  });
}

async function main(address) {
  const credentials = grpc.credentials.createInsecure();
  const models = new ModelService(address, credentials);
  const inference = new InferenceService(address, credentials);
  print("services", { names: Object.keys(definitions).filter((name) => name.endsWith("Service")) });

  const { models: served = [] } = await call(models, "ListModels", {});
  print("models", { names: served.map(({ name, version, state }) => `${name}/${version} ${state}`) });
  const model = served.find(({ state }) => state === "MODEL_STATE_READY");
  if (model === undefined) throw new Error("no model is ready");
  const rows = makeRows(model, model.window_rows + SCORED_ROWS);

  const window = { series: "node-example", start_time: rows[0].observe_time, rows: rows.slice(0, model.window_rows) };
  const forecast = await call(inference, "Forecast", {
    model: { name: model.name },
    windows: { windows: [{ ...window, rows: window.rows.map(({ values }) => ({ values })) }] },
    coverages: [0.95],
  });
  print("forecast", { model: forecast.model, steps: forecast.forecasts.forecasts[0].steps });

  const detected = await call(inference, "Detect", {
    model: { name: model.name },
    series: [{ series: "node-example", observations: { observations: rows } }],
  });
  const [{ scores, verdicts = [] }] = detected.series;
  print("detected", { judged: scores.status.length, reasons: verdicts.map(({ reason }) => reason) });

  const streamed = await stream(inference, model, rows);
  print("streamed", {
    verdicts: streamed.length,
    anomalous: streamed.filter(({ anomalous }) => anomalous).length,
    last: streamed.at(-1),
  });
  models.close();
  inference.close();
}

main(process.argv[2] ?? "127.0.0.1:50051").catch((error) => {
  console.error(`${error.code ?? "error"}: ${error.details ?? error.message}`);
  process.exit(1);
});
