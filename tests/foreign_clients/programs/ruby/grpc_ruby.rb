# The scenarios of tests/foreign_clients with ruby-grpc.
#
#   ruby grpc_ruby.rb ADDRESS FOLDER

require "grpc"
require "json"

LIMIT_SECONDS = 30
DETECT = "/mods.v1.InferenceService/Detect"
FORECAST = "/mods.v1.InferenceService/Forecast"
GET_MODEL = "/mods.v1.ModelService/GetModel"
STREAM = "/mods.v1.InferenceService/StreamDetect"
SAME = proc { |bytes| bytes }
Thread.report_on_exception = false

# A scenario: its calls, and those that ended otherwise than they had to.
class Count
  def initialize(scenario)
    @values = { scenario: scenario, calls: 0, lost: 0, detail: "" }
  end

  def add(loss)
    @values[:calls] += 1
    return if loss.nil?

    @values[:detail] = loss if @values[:lost].zero?
    @values[:lost] += 1
  end

  def print
    puts @values.to_json
  end
end

# The scenarios over one channel.
class Client
  def initialize(address, folder)
    read = ->(name) { File.binread(File.join(folder, name)) }
    @address = address
    @small, @small_answer = read["small.request"], read["small.answer"]
    @large, @large_answer = read["large.request"], read["large.answer"]
    @missing, @missing_details = read["missing.request"], read["missing.details"]
    @stream, @stream_answers = split(read["stream.requests"]), split(read["stream.answers"])
    @stub = open({})
  end

  # Splits messages, each after a zero byte and its length in four bytes.
  def split(frames)
    messages, at = [], 0
    while at < frames.bytesize
      size = frames.byteslice(at + 1, 4).unpack1("N")
      messages << frames.byteslice(at + 5, size)
      at += 5 + size
    end
    messages
  end

  def open(arguments)
    arguments = arguments.merge("grpc.use_local_subchannel_pool" => 1)
    GRPC::ClientStub.new(@address, :this_channel_is_insecure, channel_args: arguments)
  end

  def deadline(seconds = LIMIT_SECONDS)
    Time.now + seconds
  end

  def check(expected)
    answer = yield
    answer == expected ? nil : "another answer"
  rescue GRPC::BadStatus => error
    error.message
  end

  def call_small(stub = @stub, metadata = {})
    check(@small_answer) { stub.request_response(DETECT, @small, SAME, SAME, deadline: deadline, metadata: metadata) }
  end

  def call_large(stub = @stub)
    check(@large_answer) { stub.request_response(FORECAST, @large, SAME, SAME, deadline: deadline) }
  end

  def call_missing(stub = @stub)
    stub.request_response(GET_MODEL, @missing, SAME, SAME, deadline: deadline)
    "no error"
  rescue GRPC::NotFound => error
    error.metadata["grpc-status-details-bin"] == @missing_details ? nil : "other details"
  rescue GRPC::BadStatus => error
    error.message
  end

  # Starts a call whose answer is read as a stream, so that none of it is read before it is asked for.
  def start(method, request, stub = @stub)
    operation = stub.server_streamer(method, request, SAME, SAME, deadline: deadline, return_op: true)
    [operation, operation.execute]
  end

  def together(count, times)
    Array.new(times) { Thread.new { yield } }.each { |thread| count.add(thread.value) }
  end

  def unary(count)
    100.times { count.add(call_small) }
  end

  def error_details(count)
    20.times { count.add(call_missing) }
  end

  def deadlines(count)
    silent = Array.new(10) do
      Thread.new do
        @stub.bidi_streamer(STREAM, held([@stream[0]]), SAME, SAME, deadline: deadline(0.3)).each {}
        "no error"
      rescue GRPC::DeadlineExceeded
        nil
      rescue GRPC::BadStatus => error
        error.message
      end
    end
    50.times { count.add(call_small) }
    silent.each { |thread| count.add(thread.value) }
    10.times { count.add(call_small) }
  end

  # Sends the first message, the others when `opened` has something, and ends when it has something again.
  def held(messages, opened = Queue.new)
    Enumerator.new do |requests|
      requests << messages[0]
      opened.pop
      messages.drop(1).each { |message| requests << message }
      opened.pop
    end
  end

  def cancel_at_start(count)
    15.times do
      innocent = Array.new(10) do
        thread = Thread.new { call_small }
        operation, = start(DETECT, @small)
        operation.cancel
        thread
      end
      innocent.each { |thread| count.add(thread.value) }
    end
  end

  def cancel_answers(count)
    3.times do
      cancelled = Array.new(5) { start(FORECAST, @large) }
      innocent = Array.new(5) { Thread.new { call_small } } + Array.new(5) { Thread.new { call_large } }
      cancelled.each { |operation, _| operation.cancel }
      innocent.each { |thread| count.add(thread.value) }
    end
  end

  def large_answers(count)
    together(count, 20) { call_large }
  end

  def metadata(count)
    values = { "x-all-bytes-bin" => (0..255).to_a.pack("C*"), "x-empty-bin" => "" }
    60.times { |index| values["x-key-#{index}"] = "value " * 10 + index.to_s }
    values["x-twice"] = Array.new(3) { |index| "a, b;c=\"#{index}\"" }
    20.times { count.add(call_small(@stub, values)) }
  end

  def at_once(count)
    together(count, 300) { call_small }
  end

  def stream(count)
    opened, answers, ended = Queue.new, [], nil
    begin
      @stub.bidi_streamer(STREAM, held(@stream, opened), SAME, SAME, deadline: deadline).each do |answer|
        answers << answer
        opened << true if answers.size == 1 || answers.size == @stream_answers.size
      end
    rescue GRPC::BadStatus => error
      ended = error.message
    end
    @stream_answers.each_with_index.drop(1).each do |expected, index|
      count.add(answers[index] == expected ? nil : "answer #{index} of #{answers.size}, then #{ended}")
    end
    count.add(ended)
  end

  def settings(count)
    {
      "no header table" => { "grpc.http2.hpack_table_size.decoder" => 0 },
      "header table of 100" => { "grpc.http2.hpack_table_size.decoder" => 100 },
      "no header table of ours" => { "grpc.http2.hpack_table_size.encoder" => 0 },
      "window of 1,000" => { "grpc.http2.lookahead_bytes" => 1000, "grpc.http2.bdp_probe" => 0 },
      "frames up to 2^24 - 1" => { "grpc.http2.max_frame_size" => 2**24 - 1, "grpc.http2.lookahead_bytes" => 2**24 },
      "metadata up to 1,000" => { "grpc.max_metadata_size" => 1000 },
      "plain binary headers" => { "grpc.http2.true_binary" => 1 }
    }.each do |name, arguments|
      stub = open(arguments)
      say = ->(loss) { count.add(loss && "#{name}: #{loss}") }
      3.times do
        say[call_small(stub)]
        say[call_missing(stub)]
      end
      say[call_large(stub)]
    end
  end

  def drain(count)
    narrow = open({ "grpc.http2.bdp_probe" => 0 }) # else the window grows by itself
    calls = Array.new(60) { start(FORECAST, @large, narrow) }
    call_small(narrow) # sent after them, so they are under way when it is answered
    puts({ scenario: "under_way" }.to_json)
    $stdin.getc
    calls.each { |_, answers| count.add(check(@large_answer) { answers.to_a[0] }) }
  end
end

$stdout.sync = true
client = Client.new(*ARGV)
%i[
  unary error_details deadlines cancel_at_start cancel_answers large_answers metadata at_once stream settings drain
].each do |scenario|
  count = Count.new(scenario)
  client.public_send(scenario, count)
  count.print
end
