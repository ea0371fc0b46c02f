"""A real server on loopback: in a thread of the test process with a separate event loop, or as a process."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import threading

import grpc

from mods_grpc.server.app import App
from mods_grpc.server.config import TRANSPORTS, ServerConfig

transport = TRANSPORTS[0]
"""Transport of every server that tests start; set by `--transport`."""


class RunningServer:
    def __init__(self, **options):
        self.config = ServerConfig(
            **{
                "address": "127.0.0.1:0",
                "transport": transport,
                "health_address": "127.0.0.1:0",
                "grace_seconds": 5.0,
                "canary": False,
                "reload_seconds": 0.0,
            }
            | options
        )
        self._started = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.wait(30)
        if self._failure:
            raise self._failure

    def _run(self):
        try:
            asyncio.run(self._main())
        except Exception as error:
            self._failure = error
            self._started.set()

    async def _main(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.app = App(self.config)
        await self.app.start()
        self._started.set()
        await self._stop.wait()
        self.stopped_in_time = await self.app.stop()

    @property
    def address(self):
        return f"127.0.0.1:{self.app.port}"

    @property
    def health_address(self):
        return f"127.0.0.1:{self.app.health_port}"

    def model(self, name="tiny", version=None):
        return self.app.repository.serving(name, version)

    def snapshot(self, series="web"):
        """Return all state that the verdicts of series of this name depend on, as bytes."""
        states = self.model().series
        slots = [slot for slot, (_, name) in sorted(states._owners.items()) if name == series]
        return [array[slots].tobytes() for array in states.table._arrays()]

    @contextlib.contextmanager
    def locked_series(self, name="tiny"):
        """Hold the lock of a model's series. Yields a function that waits until a number of jobs wait for it."""
        lock = self.model(name).series.lock

        async def wait_for_jobs(number):
            async with asyncio.timeout(10):
                while sum(len(flow.waiters) for flow in lock._flows.values()) < number:
                    await asyncio.sleep(0.001)

        asyncio.run_coroutine_threadsafe(lock.acquire(0.0), self._loop).result(10)
        try:
            yield lambda number: asyncio.run_coroutine_threadsafe(wait_for_jobs(number), self._loop).result(15)
        finally:
            self._loop.call_soon_threadsafe(lock.release)

    def rescan(self):
        """Rescan the repository twice: a folder is loaded once it has not changed since the last scan."""
        for _ in range(2):
            asyncio.run_coroutine_threadsafe(self.app.reloader.rescan(), self._loop).result(60)

    def begin_stop(self):
        self._loop.call_soon_threadsafe(self._stop.set)

    def is_running(self):
        return self._thread.is_alive()

    def join(self):
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._failure:
            raise self._failure

    def stop(self):
        if self._thread.is_alive():
            self.begin_stop()
            self.join()


@contextlib.contextmanager
def running_server(**options):
    server = RunningServer(**options)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def channel_to(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def _make_environment():
    prefixes = ("MODS_GRPC_", "ORT_")  # the test process has set some of them
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return environment | {"MODS_GRPC_TRANSPORT": transport}


def run_failing_servers(*commands):
    """Run commands of servers that can't start, all in one process, since its imports take most of the time.

    Args:
        commands: Arguments of `mods-grpc serve`.

    Returns:
        Exit status and lines of standard error of each.
    """
    code = "import json, sys; from mods_grpc.cli.main import main\n"
    code += "for words in json.loads(sys.argv[1]): print(f'exit={main(words)}', file=sys.stderr)"
    words = json.dumps([["serve", *map(str, command)] for command in commands])
    command = [sys.executable, "-c", code, words]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True, env=_make_environment())
    outputs = re.findall(r"(.*?)^exit=(\d+)$", done.stderr, re.DOTALL | re.MULTILINE)
    return [(int(status), lines.splitlines()) for lines, status in outputs]


class Process:
    """`mods-grpc serve` as an operator runs it, or a program that runs it differently."""

    def __init__(self, *arguments, command="serve", under=(), program=("-m", "mods_grpc")):
        self.process = subprocess.Popen(
            [*under, sys.executable, *program, command, *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env=_make_environment(),
        )
        self.lines = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=30)

    def port(self):
        return int(self.wait_for(r"serving address=\S+ port=(\d+)")[1])

    def wait_for(self, pattern):
        """Return the match of the next line of the log that has the pattern."""
        for line in self.process.stderr:
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError("".join(self.lines))

    def finish(self):
        _, rest = self.process.communicate(timeout=30)
        self.lines += rest.splitlines(keepends=True)
        return self.process.returncode
