"""Signals to the process: to stop, to stop at once, and to reload, at any moment of its life; what becomes of the state file."""

import asyncio
import contextlib
import hashlib
import shutil
import signal

import grpc
import pytest

from mods_grpc.server.main import StopSignals
from mods_grpc.server.persistence.snapshot_file import read_state
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc
from tests.support.models.tiny import publish_tiny
from tests.support.rpc.client import Stream, at
from tests.support.running_server import Process, running_server

ANYWHERE = ("--address", "127.0.0.1:0", "--health-address", "127.0.0.1:0", "--no-canary")
NEVER_SCANNED = ("--reload-seconds", "0")
# Loads the model "late" only once a file exists.
LATE_LOAD = """
import sys, time
from pathlib import Path
from mods_grpc.cli.main import main
from mods_grpc.server.models.loader import Loader
load, gate = Loader.load, Path(sys.argv.pop(1))
def load_late(loader, name, version):
    while name == "late" and not gate.exists():
        time.sleep(0.01)
    return load(loader, name, version)
Loader.load = load_late
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def repository(tmp_path):
    publish_tiny(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


class LateProcess(Process):
    """A server that loads the model "late" after `release`."""

    def __init__(self, gate, *arguments):
        super().__init__(*arguments, command=gate, program=("-c", LATE_LOAD))
        self._gate = gate

    def release(self):
        self._gate.touch()


def late_process(tmp_path, *arguments):
    return LateProcess(tmp_path / "gate", "serve", *arguments)


@contextlib.contextmanager
def connected(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


def feed(port, rows, model="tiny"):
    with connected(port) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel), model={"name": model})
        for row in rows:
            stream.row(row)
        stream.end()


def saved_rows(path):
    return {model.name: model.series.last_time.tolist() for model in read_state(path).models}


def test_sighup_reads_the_repository_and_the_tokens_again(repository, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"one {hashlib.sha256(b'first').hexdigest()} infer,models\n")
    with Process(repository, *ANYWHERE, *NEVER_SCANNED, "--token-file", tokens) as server, connected(server.port()) as channel:
        metadata = (("authorization", "Bearer first"),)
        call = model_pb2_grpc.ModelServiceStub(channel).ListModels
        assert len(call(model_pb2.ListModelsRequest(), metadata=metadata).models) == 1
        publish_tiny(repository, version=2)
        tokens.write_text(f"one {hashlib.sha256(b'second').hexdigest()} infer,models\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("reloading")
        server.wait_for("credentials_renewed file=tokens")
        server.wait_for("model_serving model=tiny version=2")
        metadata = (("authorization", "Bearer second"),)
        assert len(call(model_pb2.ListModelsRequest(), metadata=metadata).models) == 2
        server.process.send_signal(signal.SIGTERM)
        assert server.finish() == 0


def test_signals_of_log_rotation_change_nothing(repository):
    with Process(repository, *ANYWHERE) as server, connected(server.port()) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel))
        for row, number in enumerate((signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)):
            server.process.send_signal(number)
            stream.row(row)
        stream.end()
        server.process.send_signal(signal.SIGTERM)
        assert server.finish() == 0


# Sends itself signals at the first import of the command line, and after the event loop was closed.
SIGNALLED = """
import asyncio, os, signal, sys
from mods_grpc.__main__ import main
def send():
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
        os.kill(os.getpid(), getattr(signal, name))
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "mods_grpc.cli.main":
            sys.meta_path.remove(self)
            send()
sys.meta_path.insert(0, Finder())
close = asyncio.Runner.close
asyncio.Runner.close = lambda runner: (close(runner), send())
sys.exit(main())
"""


def test_signals_before_the_imports_and_after_the_loop_change_nothing(repository):
    with Process(repository, *ANYWHERE, program=("-c", SIGNALLED)) as server:
        server.port()
        server.process.send_signal(signal.SIGTERM)
        assert server.finish() == 0


def test_a_signal_to_stop_that_comes_twice_at_once_counts_once(monkeypatch):
    async def count(*arrivals):
        loop, stops, stopped = asyncio.get_running_loop(), StopSignals(), 0
        now = loop.time
        with monkeypatch.context() as patch:
            for number, seconds in arrivals:
                patch.setattr(loop, "time", lambda seconds=seconds: seconds)
                stops.receive(number)
            patch.setattr(loop, "time", now)
        while True:
            try:
                await asyncio.wait_for(stops.wait(), 0.01)
            except TimeoutError:
                return stopped
            stopped += 1

    term, interrupt = signal.SIGTERM, signal.SIGINT
    for arrivals, expected in {
        ((term, 5.0), (term, 5.05)): 1,
        ((term, 5.0), (term, 5.2)): 2,
        ((term, 5.0), (term, 5.05), (term, 5.2)): 2,
        ((term, 5.0), (interrupt, 5.0)): 2,
    }.items():
        assert asyncio.run(count(*arrivals)) == expected


@pytest.mark.parametrize(("hard", "connections"), [(1_000, 872), (100, 1), (2_000, None)])
def test_connections_leave_open_files_for_all_else(repository, hard, connections):
    with Process(repository, *ANYWHERE, under=("prlimit", f"--nofile={hard // 2}:{hard}")) as server:
        server.port()
        warnings = [line for line in server.lines if "few_descriptors" in line]
        said = [f" limit={hard} max_connections={connections} " in line for line in warnings]
        assert said == ([] if connections is None else [True])
        server.process.send_signal(signal.SIGTERM)
        assert server.finish() == 0


def test_sighup_while_models_load_reloads_afterwards(repository, tmp_path):
    publish_tiny(repository, "late")
    with late_process(tmp_path, repository, *ANYWHERE, *NEVER_SCANNED) as server:
        server.wait_for("listening")
        server.process.send_signal(signal.SIGHUP)
        publish_tiny(repository, version=2)
        server.release()
        server.wait_for("serving address")
        server.wait_for("model_serving model=tiny version=2")
        server.process.send_signal(signal.SIGTERM)
        assert server.finish() == 0


def test_sighup_during_the_drain_changes_nothing(repository, path):
    arguments = ("--drain-delay-seconds", "0.3", "--state-file", path, "--state-interval-seconds", "0")
    with Process(repository, *ANYWHERE, *arguments) as server:
        feed(server.port(), range(6))
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGHUP)
        assert server.finish() == 0
    assert saved_rows(path) == {"tiny": [at(5)]}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_while_models_load_ends_the_load_and_loses_no_state(repository, path, tmp_path, number):
    publish_tiny(repository, "late")
    with running_server(repository=repository, state_file=str(path), state_interval_seconds=0.0) as server:
        for model in ("tiny", "late"):
            feed(server.app.port, range(6), model)
    shutil.move(repository / "tiny", tmp_path / "away")
    publish_tiny(repository, "early")
    with late_process(tmp_path, repository, *ANYWHERE, "--state-file", path, "--state-interval-seconds", "0") as server:
        server.wait_for("model_serving model=early")
        server.process.send_signal(number)
        server.wait_for("stopped in_time")
        server.release()  # a load can't be interrupted; without a canary process it ends with the process
        assert server.finish() == 0
    assert read_state(path).complete
    assert saved_rows(path) == {"tiny": [at(5)], "late": [at(5)]}


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_writes_the_state_before_the_exit_with_1(repository, path, second):
    arguments = ("--drain-delay-seconds", "100", "--state-file", path, "--state-interval-seconds", "0")
    with Process(repository, *ANYWHERE, *arguments) as server, connected(server.port()) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel))
        for row in range(6):
            stream.row(row)
        server.process.send_signal({signal.SIGTERM: signal.SIGINT}.get(second, signal.SIGTERM))  # two alike may become one
        server.process.send_signal(second)
        with pytest.raises(grpc.RpcError) as caught:
            stream.read()
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert server.finish() == 1
        assert not any("Traceback" in line for line in server.lines)
    assert (read_state(path).complete, saved_rows(path)) == (True, {"tiny": [at(5)]})


def test_a_stop_during_a_periodic_write_writes_what_came_after_it(repository, path):
    for last in (5, 6, 7):
        with Process(repository, *ANYWHERE, "--state-file", path, "--state-interval-seconds", "0.001") as server:
            feed(server.port(), range(last - 5, last + 1))
            server.process.send_signal(signal.SIGTERM)
            assert server.finish() == 0
        assert (read_state(path).complete, saved_rows(path)) == (True, {"tiny": [at(last)]})
        assert sorted(entry.name for entry in path.parent.iterdir()) == ["repository", "state", "state.lock"]


def test_a_final_write_that_fails_is_exit_status_1(repository, tmp_path):
    (tmp_path / "folder").mkdir()
    with Process(repository, *ANYWHERE, "--state-file", tmp_path / "folder" / "state") as server:
        feed(server.port(), range(2))
        shutil.rmtree(tmp_path / "folder")
        server.process.send_signal(signal.SIGTERM)
        assert server.finish() == 1
        assert any("state_not_written" in line and "No such file or directory" in line for line in server.lines)
        assert not any("Traceback" in line for line in server.lines)
