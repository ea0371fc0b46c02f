"""Servers in separate processes on loopback ports: `mods-grpc`, and a bare gRPC echo with the same channel options."""

import asyncio
import contextlib
import multiprocessing
import os
from pathlib import Path

import grpc

from mods_grpc.server.app import App
from mods_grpc.server.config import TRANSPORTS, ServerConfig
from mods_grpc.server.main import choose_loop_factory, freeze_gc, set_switch_interval
from mods_grpc.server.net.listener import make_channel_options

START_SECONDS = 120
LOCAL = {"address": "127.0.0.1:0", "health_address": "127.0.0.1:0"}


def add_transport_argument(parser):
    parser.add_argument(
        "--transport", choices=TRANSPORTS, default=TRANSPORTS[0], help="transport of the server (default: %(default)s)"
    )


@contextlib.contextmanager
def run_server(**options):
    """Run a server; yields its process id, port and health port. Options are those of `ServerConfig`."""
    with _run_process(_serve_mods, LOCAL | options) as (pid, ports):
        yield pid, *ports


@contextlib.contextmanager
def run_echo_server():
    """Run an echo server; yields its process id and port. The metadata key `answer-bytes` sets the length of its answers."""
    with _run_process(_serve_echo) as server:
        yield server


@contextlib.contextmanager
def _run_process(target, *arguments):
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=_run_in_loop, args=(target, *arguments, ready))
    process.start()
    try:
        yield process.pid, ready.get(timeout=START_SECONDS)
    finally:
        process.kill()
        process.join()


def _run_in_loop(target, *arguments):
    with asyncio.Runner(loop_factory=choose_loop_factory()) as runner:
        runner.run(target(*arguments))


async def _serve_mods(options, ready):
    set_switch_interval()
    app = App(ServerConfig(**options))
    await app.start()
    freeze_gc()
    ready.put((app.port, app.health_port))
    await asyncio.Event().wait()


async def _serve_echo(ready):
    def read_answer_size(context, otherwise):
        return int(dict(context.invocation_metadata()).get("answer-bytes", otherwise))

    async def unary(data, context):
        return bytes(read_answer_size(context, len(data)))

    async def stream(_, context):
        answer = bytes(read_answer_size(context, 1))
        while await context.read() is not grpc.aio.EOF:
            await context.write(answer)

    server = grpc.aio.server(options=make_channel_options(ServerConfig()), compression=grpc.Compression.NoCompression)
    handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary), "Stream": grpc.stream_stream_rpc_method_handler(stream)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ready.put(port)
    await server.wait_for_termination()


def read_resident_mib(pid):
    """Return the resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise ValueError("no VmRSS")


def read_cpu_seconds(pid):
    """Return the processor time of a process in seconds. Unlike wall clock, it hardly depends on other load."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
