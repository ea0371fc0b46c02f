// The scenarios of tests/foreign_clients with grpc-java over Netty.
//
//   java -cp JARS GrpcJava.java ADDRESS FOLDER

import com.google.common.io.ByteStreams;
import com.google.common.util.concurrent.ListenableFuture;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

final class GrpcJava {
  static final int LIMIT_SECONDS = 30;
  static final Metadata.Key<byte[]> DETAILS = Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
  static final MethodDescriptor<byte[], byte[]> DETECT = describe("mods.v1.InferenceService/Detect", MethodDescriptor.MethodType.UNARY);
  static final MethodDescriptor<byte[], byte[]> FORECAST = describe("mods.v1.InferenceService/Forecast", MethodDescriptor.MethodType.UNARY);
  static final MethodDescriptor<byte[], byte[]> GET_MODEL = describe("mods.v1.ModelService/GetModel", MethodDescriptor.MethodType.UNARY);
  static final MethodDescriptor<byte[], byte[]> STREAM =
      describe("mods.v1.InferenceService/StreamDetect", MethodDescriptor.MethodType.BIDI_STREAMING);

  static final class Bytes implements MethodDescriptor.Marshaller<byte[]> {
    @Override
    public InputStream stream(byte[] value) {
      return new ByteArrayInputStream(value);
    }

    @Override
    public byte[] parse(InputStream stream) {
      try {
        return ByteStreams.toByteArray(stream);
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  }

  static MethodDescriptor<byte[], byte[]> describe(String name, MethodDescriptor.MethodType type) {
    return MethodDescriptor.newBuilder(new Bytes(), new Bytes()).setFullMethodName(name).setType(type).build();
  }

  // Counts the calls of a scenario, and those that ended otherwise than they had to.
  static final class Count {
    final String scenario;
    int calls;
    int lost;
    String first = "";

    Count(String scenario) {
      this.scenario = scenario;
    }

    void add(String loss) {
      ++calls;
      if (loss != null && lost++ == 0) first = loss;
    }

    void print() {
      String text = first.replaceAll("[^ -~]", "?").replace("\\", "\\\\").replace("\"", "\\\"");
      System.out.printf("{\"scenario\":\"%s\",\"calls\":%d,\"lost\":%d,\"detail\":\"%s\"}%n", scenario, calls, lost, text);
    }
  }

  // A call whose messages are kept; none is asked for before `request`.
  static final class Kept extends ClientCall.Listener<byte[]> {
    final ClientCall<byte[], byte[]> call;
    final List<byte[]> messages = new ArrayList<>();
    final CountDownLatch headers = new CountDownLatch(1);
    final CountDownLatch closed = new CountDownLatch(1);
    final boolean continues;
    Status status;

    Kept(io.grpc.Channel channel, MethodDescriptor<byte[], byte[]> method, CallOptions options, boolean continues) {
      this.continues = continues;
      call = channel.newCall(method, options);
      call.start(this, new Metadata());
    }

    @Override
    public void onHeaders(Metadata values) {
      headers.countDown();
    }

    @Override
    public void onMessage(byte[] message) {
      synchronized (messages) {
        messages.add(message);
        messages.notifyAll();
      }
      if (continues) call.request(1);
    }

    @Override
    public void onClose(Status end, Metadata trailers) {
      status = end;
      closed.countDown();
      headers.countDown();
      synchronized (messages) {
        messages.notifyAll();
      }
    }

    Status end() throws InterruptedException {
      return closed.await(LIMIT_SECONDS, TimeUnit.SECONDS) ? status : Status.UNKNOWN.withDescription("no end");
    }

    // Waits for so many messages, or the end.
    void await(int count) throws InterruptedException {
      long limit = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_SECONDS);
      synchronized (messages) {
        while (messages.size() < count && closed.getCount() > 0 && System.nanoTime() < limit) messages.wait(100);
      }
    }
  }

  final String address;
  final Path folder;
  final byte[] small;
  final byte[] smallAnswer;
  final byte[] large;
  final byte[] largeAnswer;
  final byte[] missing;
  final byte[] missingDetails;
  final List<byte[]> stream;
  final List<byte[]> streamAnswers;
  final ManagedChannel channel;

  GrpcJava(String address, Path folder) throws IOException {
    this.address = address;
    this.folder = folder;
    small = read("small.request");
    smallAnswer = read("small.answer");
    large = read("large.request");
    largeAnswer = read("large.answer");
    missing = read("missing.request");
    missingDetails = read("missing.details");
    stream = split(read("stream.requests"));
    streamAnswers = split(read("stream.answers"));
    channel = builder().build();
  }

  NettyChannelBuilder builder() {
    return NettyChannelBuilder.forTarget(address).usePlaintext();
  }

  byte[] read(String name) throws IOException {
    return Files.readAllBytes(folder.resolve(name));
  }

  static List<byte[]> split(byte[] frames) {
    List<byte[]> messages = new ArrayList<>();
    for (ByteBuffer left = ByteBuffer.wrap(frames); left.hasRemaining(); ) {
      left.get();
      byte[] message = new byte[left.getInt()];
      left.get(message);
      messages.add(message);
    }
    return messages;
  }

  static CallOptions options() {
    return CallOptions.DEFAULT.withDeadlineAfter(LIMIT_SECONDS, TimeUnit.SECONDS);
  }

  ListenableFuture<byte[]> startSmall() {
    return ClientCalls.futureUnaryCall(channel.newCall(DETECT, options()), small);
  }

  static String check(ListenableFuture<byte[]> future, byte[] expected) throws InterruptedException {
    try {
      byte[] answer = future.get(LIMIT_SECONDS + 5, TimeUnit.SECONDS);
      return Arrays.equals(answer, expected) ? null : "another answer";
    } catch (ExecutionException error) {
      return error.getCause().toString();
    } catch (TimeoutException error) {
      return "no answer";
    }
  }

  static String checkMissing(ListenableFuture<byte[]> future, byte[] details) throws InterruptedException {
    try {
      future.get(LIMIT_SECONDS + 5, TimeUnit.SECONDS);
      return "no error";
    } catch (ExecutionException error) {
      if (!(error.getCause() instanceof StatusRuntimeException)) return error.getCause().toString();
      StatusRuntimeException failed = (StatusRuntimeException) error.getCause();
      if (failed.getStatus().getCode() != Status.Code.NOT_FOUND) return failed.toString();
      Metadata trailers = failed.getTrailers();
      return trailers != null && Arrays.equals(trailers.get(DETAILS), details) ? null : "other details";
    } catch (TimeoutException error) {
      return "no answer";
    }
  }

  Count unary() throws Exception {
    Count count = new Count("unary");
    for (int i = 0; i < 100; ++i) count.add(check(startSmall(), smallAnswer));
    return count;
  }

  Count errorDetails() throws Exception {
    Count count = new Count("error_details");
    for (int i = 0; i < 20; ++i) {
      count.add(checkMissing(ClientCalls.futureUnaryCall(channel.newCall(GET_MODEL, options()), missing), missingDetails));
    }
    return count;
  }

  Count deadlines() throws Exception {
    Count count = new Count("deadlines");
    CallOptions brief = CallOptions.DEFAULT.withDeadlineAfter(300, TimeUnit.MILLISECONDS);
    List<Kept> silent = new ArrayList<>();
    for (int i = 0; i < 10; ++i) {
      Kept kept = new Kept(channel, STREAM, brief, true);
      kept.call.request(1);
      kept.call.sendMessage(stream.get(0));
      silent.add(kept);
    }
    for (int i = 0; i < 50; ++i) count.add(check(startSmall(), smallAnswer));
    for (Kept kept : silent) {
      Status end = kept.end();
      count.add(end.getCode() == Status.Code.DEADLINE_EXCEEDED ? null : end.toString());
    }
    for (int i = 0; i < 10; ++i) count.add(check(startSmall(), smallAnswer));
    return count;
  }

  Count cancelAtStart() throws Exception {
    Count count = new Count("cancel_at_start");
    for (int round = 0; round < 15; ++round) {
      List<ListenableFuture<byte[]>> innocent = new ArrayList<>();
      for (int i = 0; i < 10; ++i) {
        innocent.add(startSmall());
        startSmall().cancel(true);
      }
      for (ListenableFuture<byte[]> call : innocent) count.add(check(call, smallAnswer));
    }
    return count;
  }

  Count cancelAnswers() throws Exception {
    Count count = new Count("cancel_answers");
    for (int round = 0; round < 3; ++round) {
      List<Kept> cancelled = new ArrayList<>();
      List<ListenableFuture<byte[]>> innocent = new ArrayList<>();
      List<ListenableFuture<byte[]>> innocentLarge = new ArrayList<>();
      for (int i = 0; i < 5; ++i) {
        cancelled.add(startLarge(channel));
        innocent.add(startSmall());
        innocentLarge.add(ClientCalls.futureUnaryCall(channel.newCall(FORECAST, options()), large));
      }
      for (Kept kept : cancelled) {
        kept.headers.await(LIMIT_SECONDS, TimeUnit.SECONDS);
        kept.call.cancel("not needed", null);
      }
      for (ListenableFuture<byte[]> call : innocent) count.add(check(call, smallAnswer));
      for (ListenableFuture<byte[]> call : innocentLarge) count.add(check(call, largeAnswer));
    }
    return count;
  }

  // Starts a call for a large answer, and asks for none of it.
  Kept startLarge(ManagedChannel channel) {
    Kept kept = new Kept(channel, FORECAST, options(), false);
    kept.call.sendMessage(large);
    kept.call.halfClose();
    return kept;
  }

  Count largeAnswers() throws Exception {
    Count count = new Count("large_answers");
    List<ListenableFuture<byte[]>> calls = new ArrayList<>();
    for (int i = 0; i < 20; ++i) calls.add(ClientCalls.futureUnaryCall(channel.newCall(FORECAST, options()), large));
    for (ListenableFuture<byte[]> call : calls) count.add(check(call, largeAnswer));
    return count;
  }

  Count metadata() throws Exception {
    Count count = new Count("metadata");
    Metadata headers = new Metadata();
    byte[] all = new byte[256];
    for (int i = 0; i < all.length; ++i) all[i] = (byte) i;
    headers.put(Metadata.Key.of("x-all-bytes-bin", Metadata.BINARY_BYTE_MARSHALLER), all);
    headers.put(Metadata.Key.of("x-empty-bin", Metadata.BINARY_BYTE_MARSHALLER), new byte[0]);
    for (int i = 0; i < 60; ++i) headers.put(Metadata.Key.of("x-key-" + i, Metadata.ASCII_STRING_MARSHALLER), "value ".repeat(10) + i);
    for (int i = 0; i < 3; ++i) headers.put(Metadata.Key.of("x-twice", Metadata.ASCII_STRING_MARSHALLER), "a, b;c=\"" + i + "\"");
    io.grpc.Channel attached = io.grpc.ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
    for (int i = 0; i < 20; ++i) {
      count.add(check(ClientCalls.futureUnaryCall(attached.newCall(DETECT, options()), small), smallAnswer));
    }
    return count;
  }

  Count atOnce() throws Exception {
    Count count = new Count("at_once");
    List<ListenableFuture<byte[]>> calls = new ArrayList<>();
    for (int i = 0; i < 300; ++i) calls.add(startSmall());
    for (ListenableFuture<byte[]> call : calls) count.add(check(call, smallAnswer));
    return count;
  }

  Count streaming() throws Exception {
    Count count = new Count("stream");
    Kept kept = new Kept(channel, STREAM, options(), true);
    kept.call.request(1);
    kept.call.sendMessage(stream.get(0));
    kept.await(1);
    for (byte[] message : stream.subList(1, stream.size())) kept.call.sendMessage(message);
    kept.await(streamAnswers.size());
    kept.call.halfClose();
    Status end = kept.end();
    for (int i = 1; i < streamAnswers.size(); ++i) {
      boolean equal = i < kept.messages.size() && Arrays.equals(kept.messages.get(i), streamAnswers.get(i));
      count.add(equal ? null : "answer " + i + " of " + kept.messages.size() + ", then " + end);
    }
    count.add(end.isOk() ? null : end.toString());
    return count;
  }

  Count settings() throws Exception {
    Count count = new Count("settings");
    for (int window : new int[] {1, 1000, 16 << 20}) {
      ManagedChannel other = builder().flowControlWindow(window).maxInboundMetadataSize(1000).build();
      for (int i = 0; i < 3; ++i) {
        count.add(check(ClientCalls.futureUnaryCall(other.newCall(DETECT, options()), small), smallAnswer));
        count.add(checkMissing(ClientCalls.futureUnaryCall(other.newCall(GET_MODEL, options()), missing), missingDetails));
      }
      if (window > 1) count.add(check(ClientCalls.futureUnaryCall(other.newCall(FORECAST, options()), large), largeAnswer));
      other.shutdownNow();
    }
    return count;
  }

  Count drain() throws Exception {
    Count count = new Count("drain");
    ManagedChannel narrow = builder().flowControlWindow(65_535).build();
    List<Kept> calls = new ArrayList<>();
    for (int i = 0; i < 60; ++i) calls.add(startLarge(narrow));
    for (Kept kept : calls) kept.headers.await(LIMIT_SECONDS, TimeUnit.SECONDS);
    System.out.println("{\"scenario\":\"under_way\"}");
    System.in.read();
    for (Kept kept : calls) kept.call.request(2);
    for (Kept kept : calls) {
      Status end = kept.end();
      boolean equal = kept.messages.size() == 1 && Arrays.equals(kept.messages.get(0), largeAnswer);
      count.add(end.isOk() && equal ? null : end.toString());
    }
    narrow.shutdownNow();
    return count;
  }

  public static void main(String[] words) throws Exception {
    GrpcJava client = new GrpcJava(words[0], Path.of(words[1]));
    client.unary().print();
    client.errorDetails().print();
    client.deadlines().print();
    client.cancelAtStart().print();
    client.cancelAnswers().print();
    client.largeAnswers().print();
    client.metadata().print();
    client.atOnce().print();
    client.streaming().print();
    client.settings().print();
    client.drain().print();
    client.channel.shutdownNow().awaitTermination(10, TimeUnit.SECONDS);
  }
}
