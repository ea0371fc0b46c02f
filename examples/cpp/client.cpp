// A client of mods-grpc in C++: finds a model, forecasts, detects anomalies in rows, and streams observations.
//
//   ./client [ADDRESS]            (default 127.0.0.1:50051)
//
// Prints one JSON object per line.

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include "mods_grpc/v1/inference.grpc.pb.h"
#include "mods_grpc/v1/model.grpc.pb.h"

namespace {

namespace v1 = mods::v1;

constexpr auto kDeadline = std::chrono::seconds(10);
constexpr std::int64_t kFirstRowSeconds = 1'546'300'800;  // 2019-01-01T00:00:00Z
constexpr std::uint32_t kScoredRows = 12;
constexpr char kSeries[] = "cpp-example";

std::string Json(const google::protobuf::Message& message) {
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text);
  if (!status.ok()) throw std::runtime_error(status.ToString());
  return text;
}

void Print(const std::string& what, const google::protobuf::Message& value) {
  std::cout << R"({"what":")" << what << R"(","value":)" << Json(value) << "}\n";
}

void Check(const grpc::Status& status) {
  if (!status.ok()) throw std::runtime_error(std::to_string(status.error_code()) + ": " + status.error_message());
}

// Calls a unary method with a deadline.
template <typename Stub, typename Request, typename Response>
Response Call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*), const Request& request) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  Response response;
  Check((stub.*method)(&context, request, &response));
  return response;
}

// Makes normal rows in the middle of the training range; the last one is twenty times the training maximum.
std::vector<v1::Observation> MakeRows(const v1::Model& model, std::uint32_t count) {
  std::vector<v1::Observation> rows(count);
  for (std::uint32_t row = 0; row < count; ++row) {
    rows[row].set_series(kSeries);
    rows[row].mutable_observe_time()->set_seconds(kFirstRowSeconds + row * model.slide().seconds());
    for (const auto& feature : model.features()) {
      const double low = feature.training_minimum(), high = feature.training_maximum();
      const double normal = (low + high) / 2 * (1 + 0.02 * std::sin(row));
      rows[row].add_values(std::round(row + 1 == count ? 20 * high : normal));
    }
  }
  return rows;
}

v1::ForecastResponse Forecast(v1::InferenceService::Stub& inference, const v1::Model& model,
                              const std::vector<v1::Observation>& rows) {
  v1::ForecastRequest request;
  request.mutable_model()->set_name(model.name());
  request.add_coverages(0.95);
  auto& window = *request.mutable_windows()->add_windows();
  window.set_series(kSeries);
  *window.mutable_start_time() = rows[0].observe_time();
  for (std::uint32_t row = 0; row < model.window_rows(); ++row) {
    *window.add_rows()->mutable_values() = rows[row].values();
  }
  return Call<v1::InferenceService::Stub, v1::ForecastRequest, v1::ForecastResponse>(
      inference, &v1::InferenceService::Stub::Forecast, request);
}

v1::DetectResponse Detect(v1::InferenceService::Stub& inference, const v1::Model& model,
                          const std::vector<v1::Observation>& rows) {
  v1::DetectRequest request;
  request.mutable_model()->set_name(model.name());
  auto& series = *request.add_series();
  series.set_series(kSeries);
  *series.mutable_observations()->mutable_observations() = {rows.begin(), rows.end()};
  return Call<v1::InferenceService::Stub, v1::DetectRequest, v1::DetectResponse>(
      inference, &v1::InferenceService::Stub::Detect, request);
}

// Streams rows one by one: each is sent when the verdict on the one before has arrived. Returns the last verdict.
v1::Verdict Stream(v1::InferenceService::Stub& inference, const v1::Model& model, const std::vector<v1::Observation>& rows) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  auto stream = inference.StreamDetect(&context);
  v1::StreamDetectRequest request;
  auto& config = *request.mutable_config();
  config.mutable_model()->set_name(model.name());
  config.set_sensor("cpp-" + std::to_string(getpid()));
  config.set_explain(v1::EXPLAIN_ANOMALIES);
  stream->Write(request);

  std::uint64_t sent = 0;
  v1::Verdict last;
  v1::StreamDetectResponse response;
  while (stream->Read(&response)) {
    if (response.has_opened()) Print("opened", response.opened());
    if (response.has_ended()) {
      Print("ended", response.ended());
      stream->WritesDone();
    }
    if (response.has_answer()) last = response.answer().verdict();
    if (!response.has_opened() && !response.has_answer()) continue;
    if (sent < rows.size()) {
      *request.mutable_data()->mutable_observation() = rows[sent];
      request.mutable_data()->set_sequence(++sent);
    } else {
      request.mutable_end();
    }
    stream->Write(request);
  }
  Check(stream->Finish());
  return last;
}

void Run(const std::string& address) {
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  v1::ModelService::Stub models(channel);
  v1::InferenceService::Stub inference(channel);
  const auto served = Call<v1::ModelService::Stub, v1::ListModelsRequest, v1::ListModelsResponse>(
      models, &v1::ModelService::Stub::ListModels, v1::ListModelsRequest());
  for (const auto& model : served.models()) {
    if (model.state() != v1::MODEL_STATE_READY) continue;
    Print("model", model);
    const auto rows = MakeRows(model, model.window_rows() + kScoredRows);
    Print("forecast", Forecast(inference, model, rows));
    Print("detected", Detect(inference, model, rows));
    Print("last", Stream(inference, model, rows));
    return;
  }
  throw std::runtime_error("no model is ready");
}

}  // namespace

int main(int count, char** words) {
  try {
    Run(count > 1 ? words[1] : "127.0.0.1:50051");
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
