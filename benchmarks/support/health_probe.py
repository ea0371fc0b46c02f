"""A health probe in a separate process. It also probes an idle server, to tell the server's delays from those of the machine."""

import contextlib
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

INTERVAL_SECONDS, TIMEOUT_SECONDS = 0.05, 10.0
REQUEST = health_pb2.HealthCheckRequest(service="readiness")


@contextlib.contextmanager
def probe_health(port):
    """Probe until the block ends. Yields two lists, filled at the end: seconds per probe of this server, and of the idle one."""
    context, seconds, idle_seconds = multiprocessing.get_context("spawn"), [], []
    with (
        _run_process(context, _serve_bare) as bare_server,
        _run_process(context, _probe_servers, port, bare_server.recv()) as prober,
    ):
        prober.recv()
        try:
            yield seconds, idle_seconds
        finally:
            prober.send(None)
            for target, measured in zip((seconds, idle_seconds), prober.recv(), strict=True):
                target.extend(measured)


@contextlib.contextmanager
def _run_process(context, target, *arguments):
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def _serve_bare(pipe):
    server, servicer = grpc.server(ThreadPoolExecutor(4)), health.HealthServicer()
    servicer.set(REQUEST.service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


def _probe_servers(port, bare_port, pipe):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as ours, grpc.insecure_channel(f"127.0.0.1:{bare_port}") as bare:
        stubs = [health_pb2_grpc.HealthStub(channel) for channel in (ours, bare)]
        for stub in stubs:
            stub.Check(REQUEST, timeout=TIMEOUT_SECONDS, wait_for_ready=True)
        pipe.send(None)
        seconds = [[], []]
        while not pipe.poll(INTERVAL_SECONDS):
            for stub, mine in zip(stubs, seconds, strict=True):
                started = time.perf_counter()
                stub.Check(REQUEST, timeout=TIMEOUT_SECONDS)
                mine.append(time.perf_counter() - started)
        pipe.send(seconds)
