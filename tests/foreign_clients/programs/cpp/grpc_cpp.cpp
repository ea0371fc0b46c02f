// The scenarios of tests/foreign_clients with gRPC for C++.
//
//   grpc_cpp ADDRESS FOLDER

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_callback.h>

namespace {

using Clock = std::chrono::system_clock;
using Losses = std::vector<std::future<std::string>>;

constexpr auto kLimit = std::chrono::seconds(30);
constexpr char kDetect[] = "/mods.v1.InferenceService/Detect";
constexpr char kForecast[] = "/mods.v1.InferenceService/Forecast";
constexpr char kGetModel[] = "/mods.v1.ModelService/GetModel";
constexpr char kStream[] = "/mods.v1.InferenceService/StreamDetect";

grpc::ByteBuffer Wrap(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string Unwrap(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const auto& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

// Splits messages, each after a zero byte and its length in four bytes.
std::vector<std::string> Split(const std::string& frames) {
  std::vector<std::string> messages;
  for (std::size_t at = 0; at < frames.size();) {
    std::size_t size = 0;
    for (std::size_t i = 1; i < 5; ++i) size = size << 8 | static_cast<unsigned char>(frames[at + i]);
    messages.push_back(frames.substr(at + 5, size));
    at += 5 + size;
  }
  return messages;
}

// A scenario: its calls, and those that ended otherwise than they had to.
struct Count {
  std::string scenario;
  int calls = 0;
  int lost = 0;
  std::string detail;

  void Add(const std::string& loss) {
    ++calls;
    if (!loss.empty() && lost++ == 0) detail = loss;
  }

  void AddAll(Losses losses) {
    for (auto& loss : losses) Add(loss.get());
  }

  void Print() const {
    std::string text;
    for (const char c : detail) text += c == '"' || c == '\\' || c < ' ' ? '?' : c;
    std::printf(R"({"scenario":"%s","calls":%d,"lost":%d,"detail":"%s"})", scenario.c_str(), calls, lost, text.c_str());
    std::puts("");
    std::fflush(stdout);
  }
};

// A unary call under way.
struct Unary {
  grpc::ClientContext context;
  grpc::ByteBuffer request;
  grpc::ByteBuffer answer;
  std::promise<grpc::Status> ended;
};

// A stream whose operations are waited for one by one.
class Streamed {
 public:
  Streamed(grpc::GenericStub& stub, const std::string& method, std::chrono::milliseconds limit) {
    context.set_deadline(Clock::now() + limit);
    call_ = stub.PrepareCall(&context, method, &queue_);
    call_->StartCall(this);
    Wait();
  }

  ~Streamed() {
    queue_.Shutdown();
    void* tag;
    for (bool ok; queue_.Next(&tag, &ok);) continue;
  }

  void Write(const std::string& message) {
    call_->Write(Wrap(message), this);
    Wait();
  }

  void End() {
    call_->WritesDone(this);
    Wait();
  }

  bool Read(std::string* message) {
    grpc::ByteBuffer buffer;
    call_->Read(&buffer, this);
    if (!Wait()) return false;
    *message = Unwrap(buffer);
    return true;
  }

  void WaitForHeaders() {
    call_->ReadInitialMetadata(this);
    Wait();
  }

  grpc::Status Finish() {
    grpc::Status status;
    call_->Finish(&status, this);
    Wait();
    return status;
  }

  grpc::ClientContext context;

 private:
  bool Wait() {
    void* tag;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

std::string Explain(const grpc::Status& status) {
  return std::to_string(status.error_code()) + ": " + status.error_message();
}

class Client {
 public:
  Client(std::string address, std::string folder) : address_(std::move(address)), folder_(std::move(folder)), stub_(Open({})) {}

  std::vector<std::pair<std::string, std::function<void(Count&)>>> Scenarios() {
    return {
        {"unary", [this](Count& count) { RunUnary(count); }},
        {"error_details", [this](Count& count) { RunErrorDetails(count); }},
        {"deadlines", [this](Count& count) { RunDeadlines(count); }},
        {"cancel_at_start", [this](Count& count) { RunCancelAtStart(count); }},
        {"cancel_answers", [this](Count& count) { RunCancelAnswers(count); }},
        {"large_answers", [this](Count& count) { count.AddAll(StartLarge(20)); }},
        {"metadata", [this](Count& count) { RunMetadata(count); }},
        {"at_once", [this](Count& count) { count.AddAll(StartSmall(300)); }},
        {"stream", [this](Count& count) { RunStream(count); }},
        {"settings", [this](Count& count) { RunSettings(count); }},
        {"drain", [this](Count& count) { RunDrain(count); }},
    };
  }

 private:
  using Arguments = std::vector<std::pair<std::string, int>>;

  std::string Read(const std::string& name) const {
    std::ifstream file(folder_ + "/" + name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  std::unique_ptr<grpc::GenericStub> Open(const Arguments& arguments) const {
    grpc::ChannelArguments channel;
    channel.SetInt("grpc.use_local_subchannel_pool", 1);
    for (const auto& [name, value] : arguments) channel.SetInt(name, value);
    return std::make_unique<grpc::GenericStub>(grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), channel));
  }

  std::shared_ptr<Unary> Start(grpc::GenericStub& stub, const std::string& method, const std::string& request,
                               const std::function<void(grpc::ClientContext&)>& prepare = {}) const {
    auto call = std::make_shared<Unary>();
    call->context.set_deadline(Clock::now() + kLimit);
    if (prepare) prepare(call->context);
    call->request = Wrap(request);
    stub.UnaryCall(&call->context, method, {}, &call->request, &call->answer,
                   [call](grpc::Status status) { call->ended.set_value(std::move(status)); });
    return call;
  }

  static std::future<std::string> Check(const std::shared_ptr<Unary>& call, const std::string& expected) {
    return std::async(std::launch::deferred, [call, expected] {
      const auto status = call->ended.get_future().get();
      if (!status.ok()) return Explain(status);
      return Unwrap(call->answer) == expected ? std::string() : std::string("another answer");
    });
  }

  Losses StartSmall(int times) {
    Losses losses;
    for (int i = 0; i < times; ++i) losses.push_back(Check(Start(*stub_, kDetect, small_), small_answer_));
    return losses;
  }

  Losses StartLarge(int times) {
    Losses losses;
    for (int i = 0; i < times; ++i) losses.push_back(Check(Start(*stub_, kForecast, large_), large_answer_));
    return losses;
  }

  std::string CallMissing(grpc::GenericStub& stub) const {
    const auto status = Start(stub, kGetModel, missing_)->ended.get_future().get();
    if (status.error_code() != grpc::StatusCode::NOT_FOUND) return Explain(status);
    return status.error_details() == missing_details_ ? "" : "other details";
  }

  void RunUnary(Count& count) {
    for (int i = 0; i < 100; ++i) count.AddAll(StartSmall(1));
  }

  void RunErrorDetails(Count& count) {
    for (int i = 0; i < 20; ++i) count.Add(CallMissing(*stub_));
  }

  void RunDeadlines(Count& count) {
    std::vector<std::unique_ptr<Streamed>> silent;
    for (int i = 0; i < 10; ++i) {
      silent.push_back(std::make_unique<Streamed>(*stub_, kStream, std::chrono::milliseconds(300)));
      silent.back()->Write(stream_[0]);
    }
    for (int i = 0; i < 50; ++i) count.AddAll(StartSmall(1));
    for (auto& one : silent) {
      std::string answer;
      while (one->Read(&answer)) continue;
      const auto status = one->Finish();
      count.Add(status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ? "" : Explain(status));
    }
    for (int i = 0; i < 10; ++i) count.AddAll(StartSmall(1));
  }

  void RunCancelAtStart(Count& count) {
    for (int round = 0; round < 15; ++round) {
      Losses innocent;
      std::vector<std::shared_ptr<Unary>> cancelled;
      for (int i = 0; i < 10; ++i) {
        innocent.push_back(Check(Start(*stub_, kDetect, small_), small_answer_));
        cancelled.push_back(Start(*stub_, kDetect, small_));
        cancelled.back()->context.TryCancel();
      }
      count.AddAll(std::move(innocent));
      for (auto& call : cancelled) call->ended.get_future().get();
    }
  }

  void RunCancelAnswers(Count& count) {
    for (int round = 0; round < 3; ++round) {
      std::vector<std::unique_ptr<Streamed>> cancelled;
      for (int i = 0; i < 5; ++i) cancelled.push_back(StartUnread(*stub_));
      auto small = StartSmall(5);
      auto large = StartLarge(5);
      for (auto& call : cancelled) {
        call->WaitForHeaders();
        call->context.TryCancel();
      }
      count.AddAll(std::move(small));
      count.AddAll(std::move(large));
      for (auto& call : cancelled) call->Finish();
    }
  }

  // Starts a call for a large answer of which nothing is read.
  std::unique_ptr<Streamed> StartUnread(grpc::GenericStub& stub) const {
    auto call = std::make_unique<Streamed>(stub, kForecast, kLimit);
    call->Write(large_);
    call->End();
    return call;
  }

  void RunMetadata(Count& count) {
    std::string all;
    for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
    std::string value;
    for (int i = 0; i < 10; ++i) value += "value ";
    const auto prepare = [&](grpc::ClientContext& context) {
      context.AddMetadata("x-all-bytes-bin", all);
      context.AddMetadata("x-empty-bin", "");
      for (int i = 0; i < 60; ++i) context.AddMetadata("x-key-" + std::to_string(i), value + std::to_string(i));
      for (int i = 0; i < 3; ++i) context.AddMetadata("x-twice", "a, b;c=\"" + std::to_string(i) + "\"");
    };
    for (int i = 0; i < 20; ++i) count.Add(Check(Start(*stub_, kDetect, small_, prepare), small_answer_).get());
  }

  void RunStream(Count& count) {
    Streamed call(*stub_, kStream, kLimit);
    call.Write(stream_[0]);
    for (std::size_t i = 0; i < stream_answers_.size(); ++i) {
      std::string answer;
      if (!call.Read(&answer)) break;
      if (i > 0) count.Add(answer == stream_answers_[i] ? "" : "answer " + std::to_string(i) + " differs");
      for (std::size_t next = 1; i == 0 && next < stream_.size(); ++next) call.Write(stream_[next]);
    }
    call.End();
    const auto status = call.Finish();
    count.Add(status.ok() ? "" : Explain(status));
  }

  void RunSettings(Count& count) {
    const std::vector<std::pair<std::string, Arguments>> variants = {
        {"no header table", {{"grpc.http2.hpack_table_size.decoder", 0}}},
        {"header table of 100", {{"grpc.http2.hpack_table_size.decoder", 100}}},
        {"no header table of ours", {{"grpc.http2.hpack_table_size.encoder", 0}}},
        {"window of 1,000", {{"grpc.http2.lookahead_bytes", 1000}, {"grpc.http2.bdp_probe", 0}}},
        {"frames up to 2^24 - 1", {{"grpc.http2.max_frame_size", (1 << 24) - 1}, {"grpc.http2.lookahead_bytes", 1 << 24}}},
        {"metadata up to 1,000", {{"grpc.max_metadata_size", 1000}}},
        {"plain binary headers", {{"grpc.http2.true_binary", 1}}},
    };
    for (const auto& [name, arguments] : variants) {
      const auto other = Open(arguments);
      const auto add = [&count, &name = name](const std::string& loss) { count.Add(loss.empty() ? loss : name + ": " + loss); };
      for (int i = 0; i < 3; ++i) {
        add(Check(Start(*other, kDetect, small_), small_answer_).get());
        add(CallMissing(*other));
      }
      add(Check(Start(*other, kForecast, large_), large_answer_).get());
    }
  }

  void RunDrain(Count& count) {
    const auto narrow = Open({{"grpc.http2.bdp_probe", 0}});  // else the window grows by itself
    std::vector<std::unique_ptr<Streamed>> calls;
    for (int i = 0; i < 60; ++i) calls.push_back(StartUnread(*narrow));
    for (auto& call : calls) call->WaitForHeaders();
    std::puts(R"({"scenario":"under_way"})");
    std::fflush(stdout);
    std::getchar();
    for (auto& call : calls) {
      std::string answer;
      call->Read(&answer);
      const auto status = call->Finish();
      count.Add(!status.ok() ? Explain(status) : answer == large_answer_ ? "" : "another answer");
    }
  }

  const std::string address_;
  const std::string folder_;
  const std::string small_ = Read("small.request");
  const std::string small_answer_ = Read("small.answer");
  const std::string large_ = Read("large.request");
  const std::string large_answer_ = Read("large.answer");
  const std::string missing_ = Read("missing.request");
  const std::string missing_details_ = Read("missing.details");
  const std::vector<std::string> stream_ = Split(Read("stream.requests"));
  const std::vector<std::string> stream_answers_ = Split(Read("stream.answers"));
  const std::unique_ptr<grpc::GenericStub> stub_;
};

}  // namespace

int main(int, char** words) {
  Client client(words[1], words[2]);
  for (const auto& [name, run] : client.Scenarios()) {
    Count count;
    count.scenario = name;
    run(count);
    count.Print();
  }
}
