"""Well-behaved callers whose latency is measured, beside an echo that shows what the machine itself takes."""

import threading
import time

import grpc
import numpy as np

from benchmarks.robustness.chaos_streams import ANSWER_SECONDS, Session, play
from benchmarks.support.rpc_messages import START_NANOS, RequestFactory
from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.artifact import read_artifact
from mods_grpc.client import Client
from mods_grpc.errors import ModsError

PAUSE_SECONDS = 0.01
FAILURE_PAUSE_SECONDS = 0.1
KINDS = ("Forecast", "StreamDetect", "echo")
ECHO_BYTES = bytes(1000)


class Callers:
    """A caller of Forecast, a stream of single rows and a caller of the echo, each in a thread.

    Attributes:
        calls: (begin, seconds) by kind. failures: (begin, end, error) of Forecast. sessions: of the stream.
    """

    def __init__(self, port, echo_port, manifest, scripts, stop):
        self._address, self._echo_address = f"127.0.0.1:{port}", f"127.0.0.1:{echo_port}"
        self._manifest, self._stop = manifest, stop
        self._scripts = [script for script in scripts if script.model == manifest.name and len(script.messages) > 1]
        self.calls = {kind: [] for kind in KINDS}
        self.failures, self.sessions = [], []

    def run(self):
        """Call until `stop`."""
        threads = [threading.Thread(target=run, daemon=True) for run in (self._forecast, self._stream, self._echo)]
        for thread in threads:
            thread.start()
        self._stop.wait()
        for thread in threads:
            thread.join(2 * ANSWER_SECONDS)

    def _forecast(self):
        window = RequestFactory(self._manifest).make_windows(1)
        start = START_NANOS - self._manifest.rows * self._manifest.slide_seconds * NANOS_PER_SECOND
        with Client(self._address, timeout_seconds=10) as client:
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    client.forecast(window, start, model=self._manifest.name)
                except ModsError as error:
                    self.failures.append((begun, time.monotonic(), f"{type(error).__name__}: {error}"))
                    time.sleep(FAILURE_PAUSE_SECONDS)
                else:
                    self.calls["Forecast"].append((begun, time.monotonic() - begun))
                time.sleep(PAUSE_SECONDS)

    def _stream(self):
        scripts = [script for script in self._scripts if len(script.messages) == len(script.expected)]  # single rows
        with Client(self._address, timeout_seconds=ANSWER_SECONDS) as client:
            while not self._stop.is_set():
                script = scripts[len(self.sessions) % len(scripts)]
                session = Session(sensor=f"caller-{len(self.sessions)}", model=script.model, kind=script.kind, route="straight")
                self.sessions.append(session)
                record = self.calls["StreamDetect"]
                play(
                    client,
                    script,
                    session,
                    self._stop,
                    pause=PAUSE_SECONDS,
                    on_wait=lambda begun, seconds, record=record: record.append((begun, seconds)),
                )

    def _echo(self):
        with grpc.insecure_channel(self._echo_address) as channel:
            call = channel.unary_unary("/echo/Unary")
            while not self._stop.is_set():
                begun = time.monotonic()
                call(ECHO_BYTES, timeout=60)
                self.calls["echo"].append((begun, time.monotonic() - begun))
                time.sleep(PAUSE_SECONDS)


def run_callers(port, echo_port, artifact, scripts, stop, pipe):
    """Call until `stop`, an event of another process, then send calls `(n, 2)` by kind, failures and sessions to `pipe`.

    `artifact` holds the arguments of `read_artifact`.
    """
    callers = Callers(port, echo_port, read_artifact(*artifact).manifest, scripts, stop)
    callers.run()
    calls = {kind: np.array(calls).reshape(-1, 2) for kind, calls in callers.calls.items()}
    pipe.send((calls, list(callers.failures), list(callers.sessions)))
