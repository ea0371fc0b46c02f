"""Streams of the client library that must get the verdicts of an undisturbed server, whatever happens to server and network."""

import random
import threading
import time
from dataclasses import dataclass, field

from benchmarks.robustness.chaos_scripts import describe_difference, differs
from mods_grpc.client import Client
from mods_grpc.errors import ConnectionFailedError, ModelNotFoundError, ModsError

ANSWER_SECONDS = 3.0  # time limit of the client library for an answer
LONG_WAIT_SECONDS = 1.0  # waits above it are recorded
OPEN_SECONDS = 90.0  # how long opening a stream is tried
ABSENT_PAUSE_SECONDS = 0.3
SENSOR_SECONDS = 15.0  # after which streams begin with a new sensor, whose series are new
PAUSES = (0.005, 0.02, 0.05, 0.1)


@dataclass(kw_only=True)
class Session:
    """What became of one stream.

    Attributes:
        sensor, model, kind, route: Its sensor, model, kind and whether it ran through the unreliable network.
        started, ended: Monotonic times.
        rows: Verdicts received. complete: whether all were.
        waits: (begin, seconds) of long waits for a verdict.
        refusals: (begin, end, error) of attempts to open it that failed. absences: when the server did not know the model.
        failure: The error of the client library that ended it; empty if none did.
        changed: Verdicts that differ in anything, the first in words; wrong: in what must never differ, likewise.
    """

    sensor: str
    model: str
    kind: str
    route: str
    started: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    rows: int = 0
    complete: bool = False
    waits: list = field(default_factory=list)
    refusals: list = field(default_factory=list)
    absences: list = field(default_factory=list)
    failure: str = ""
    changed: int = 0
    first_changed: str = ""
    wrong: int = 0
    first_wrong: str = ""

    def compare(self, verdict, expected):
        """Count a verdict."""
        self.rows += 1
        if differs(verdict, expected, self.kind, forgotten=False):
            description = f"{time.monotonic() - self.started:.1f} s, row {self.rows}, {describe_difference(verdict, expected)}"
            self.changed += 1
            self.first_changed = self.first_changed or description
            if differs(verdict, expected, self.kind, forgotten=True):
                self.wrong += 1
                self.first_wrong = self.first_wrong or description


def play(client, script, session, stop, *, pause, in_flight=1, on_wait=None):
    """Run a stream to its end, or until `stop` is set.

    Args:
        client: Of the client library.
        script: What to send and to expect.
        session: Filled in.
        stop: An event.
        pause: Seconds before each message.
        in_flight: As in `Client.stream_detect`.
        on_wait: Called with begin and seconds of each wait for a verdict.
    """
    slept = 0.0

    def send_messages():
        nonlocal slept
        for message in script.messages_after(session.rows):
            if stop.is_set():
                return
            time.sleep(pause)
            slept += pause
            yield message

    def read_verdicts(stream):
        for expected in script.expected[session.rows :]:
            before, begun = slept, time.monotonic()
            verdict = next(stream, None)
            if verdict is None:
                return
            seconds = time.monotonic() - begun - (slept - before)
            if on_wait:
                on_wait(begun, seconds)
            if seconds > LONG_WAIT_SECONDS:
                session.waits.append((begun, seconds))
            session.compare(verdict, expected)
        session.complete = True

    try:
        while not session.complete and not stop.is_set():
            try:
                stream = _open(client, script, session, stop, send_messages(), in_flight)
                if stream is not None:
                    with stream:
                        read_verdicts(stream)
            except ModelNotFoundError:  # it is late; the client library takes this for an answer
                session.absences.append(time.monotonic())
                time.sleep(ABSENT_PAUSE_SECONDS)
    except ModsError as error:
        session.failure = f"{type(error).__name__}: {error}"
    finally:
        session.ended = time.monotonic()


def _open(client, script, session, stop, messages, in_flight):
    """Open a stream. The client library does not retry where it never reached a server, so this does."""
    deadline = time.monotonic() + OPEN_SECONDS
    while not stop.is_set():
        begun = time.monotonic()
        try:
            return client.stream_detect(messages, sensor=session.sensor, in_flight=in_flight, **script.options)
        except ConnectionFailedError as error:
            session.refusals.append((begun, time.monotonic(), str(error)))
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    return None


def _deal(scripts, name, rng):
    """Yield sensor and script of one stream after the other. Sensors change with time, so that no series is played twice."""
    sensor = ""
    while True:
        period = time.monotonic() // SENSOR_SECONDS
        if sensor == f"{name}-{period:.0f}":  # all were played
            time.sleep(ABSENT_PAUSE_SECONDS)
            continue
        sensor = f"{name}-{period:.0f}"
        for script in rng.sample(scripts, len(scripts)):
            yield sensor, script
            if time.monotonic() // SENSOR_SECONDS != period:
                break


def run_streams(scripts, routes, seed, stop, pipe):
    """Run streams at the same time until `stop`, then send the sessions to `pipe`. Two streams share a sensor, but no series.

    Args:
        scripts: What to play, drawn at random.
        routes: (name, port) of each stream.
        seed: Of the random choices.
        stop: An event of another process.
        pipe: Where the list of sessions goes.
    """
    sessions = []

    def run(number, route, port):
        rng = random.Random(seed * 1000 + number)
        client, parts = None, _deal(scripts[number % 2 :: 2], f"stream-{number // 2}", rng)
        while not stop.is_set():
            if client is None or rng.random() < 0.3:  # most sessions share the channel of the one before
                if client is not None:
                    client.close()
                client = Client(f"127.0.0.1:{port}", timeout_seconds=ANSWER_SECONDS)
            sensor, script = next(parts)
            session = Session(sensor=sensor, model=script.model, kind=script.kind, route=route)
            sessions.append(session)
            play(client, script, session, stop, pause=rng.choice(PAUSES), in_flight=rng.randint(1, 3))

    threads = [threading.Thread(target=run, args=(i, *route), daemon=True) for i, route in enumerate(routes)]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join(2 * ANSWER_SECONDS)
    pipe.send(list(sessions))
