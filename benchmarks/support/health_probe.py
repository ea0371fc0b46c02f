"""A health probe in a process of its own, and beside it one of a server that does nothing else."""

import contextlib
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

PAUSE_SECONDS, PATIENCE_SECONDS = 0.05, 10.0
REQUEST = health_pb2.HealthCheckRequest(service="readiness")


@contextlib.contextmanager
def probing(port):
    """Ask for health all the while; yields two lists that hold the seconds afterwards, of this server and of the bare one."""
    context, ours, bare = multiprocessing.get_context("spawn"), [], []
    with _process(context, _serve_bare) as bare_server, _process(context, _probe, port, bare_server.recv()) as prober:
        prober.recv()
        try:
            yield ours, bare
        finally:
            prober.send(None)
            for mine, times in zip((ours, bare), prober.recv(), strict=True):
                mine.extend(times)


@contextlib.contextmanager
def _process(context, target, *arguments):
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


def _probe(port, bare_port, pipe):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as ours, grpc.insecure_channel(f"127.0.0.1:{bare_port}") as bare:
        stubs = [health_pb2_grpc.HealthStub(channel) for channel in (ours, bare)]
        for stub in stubs:
            stub.Check(REQUEST, timeout=PATIENCE_SECONDS, wait_for_ready=True)
        pipe.send(None)
        seconds = [[], []]
        while not pipe.poll(PAUSE_SECONDS):
            for stub, mine in zip(stubs, seconds, strict=True):
                started = time.perf_counter()
                stub.Check(REQUEST, timeout=PATIENCE_SECONDS)
                mine.append(time.perf_counter() - started)
        pipe.send(seconds)
