"""Disturb a server in every way at once while streams and callers use it: is each row judged once, and is it still fast?

The server is drained, killed, stopped, sent SIGHUP and given new versions of its models at random; streams of the client
library run directly and through a network that loses connections silently; peers misbehave. Calm phases lie between the disturbed
ones, to compare with. In the middle third the process is not restarted, to see whether its memory stays flat. Every verdict is
compared with that of an undisturbed server. Calls in which the server was down or stopped don't count as slow.

Usage: python benchmarks/robustness/chaos.py [--minutes 2] [--seed 1] [--transport grpcio] [--repository exported] [--json FILE]
"""

import argparse
import contextlib
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.robustness.chaos_callers import run_callers
from benchmarks.robustness.chaos_network import run_network
from benchmarks.robustness.chaos_peers import run_peers
from benchmarks.robustness.chaos_report import Run, find_faults, print_report, to_json
from benchmarks.robustness.chaos_scripts import make_scripts, record_expected
from benchmarks.robustness.chaos_server import ChaosServer, find_free_port
from benchmarks.robustness.chaos_streams import run_streams
from benchmarks.support.processes import add_transport_argument, run_echo_server, run_server
from benchmarks.support.small_network import publish_mlp
from mods_grpc.artifact import read_artifact

STREAMS = 5  # on each of the two routes
MODELS = 3
CYCLES = 20
MIN_CYCLE_SECONDS, MAX_CYCLE_SECONDS = 12.0, 60.0
CALM_SHARE = 0.4  # of a cycle
SAMPLES_PER_PHASE = 10  # of memory, file descriptors and threads
SETTLE_SECONDS = 2.0  # of a calm phase, which are not measured
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 4.0  # between two disturbances
MAX_STOP_SECONDS = 8.0
MIN_JUDGED_MINUTES = 2.0  # below, speed and growth of memory are not judged
COLLECT_SECONDS = 60.0
GROUPS_BY_TRANSPORT = {
    "direct": ("clients", "floods", "costly"),
    "grpcio": ("clients", "floods"),  # gRPC's library cancels calls of others under costly header blocks
}


class Chaos:
    """The timeline of a run: calm and disturbed phases in turn.

    Args:
        server: The server.
        rng: For the random choices.
        disturbing: Event that tells the other processes to misbehave.

    Attributes:
        phases, samples: As of `Run`.
    """

    def __init__(self, server, rng, disturbing):
        self._server, self._rng, self._disturbing = server, rng, disturbing
        self._restarts = self._deal(
            server.drain,
            server.kill,
            lambda: server.drain(stop_seconds=rng.uniform(0.1, 3)),
            lambda: server.drain(repeat=True),
            lambda: server.drain(late_model=self._choose_model()),
            lambda: server.kill(draining_seconds=rng.uniform(0, 1)),
        )
        self._disturbances = self._deal(
            *[lambda: server.hold(rng.uniform(0.05, 0.5))] * 4,
            lambda: server.hold(rng.uniform(0.5, MAX_STOP_SECONDS)),
            *[lambda: server.publish(self._choose_model())] * 3,
            *[server.reload] * 2,
        )
        self.phases, self.samples = [], []

    def run(self, seconds):
        """Run for some time."""
        begun = time.monotonic()
        cycle = min(max(seconds / CYCLES, MIN_CYCLE_SECONDS), MAX_CYCLE_SECONDS)
        while (done := time.monotonic() - begun) < seconds:
            self._be_calm(cycle * CALM_SHARE)
            in_middle = seconds > 60 * MIN_JUDGED_MINUTES and seconds / 3 < done < 2 * seconds / 3
            self._disturb(cycle * (1 - CALM_SHARE), restarts=not in_middle)
            sys.stderr.write(f"\r{done:.0f} of {seconds:.0f} s, {len(self._server.events)} events")
        self._be_calm(cycle * CALM_SHARE)
        sys.stderr.write("\n")

    def _be_calm(self, seconds):
        time.sleep(SETTLE_SECONDS)
        self._wait_until_loaded()
        begun = time.monotonic()
        measured = []
        while time.monotonic() - begun < seconds:
            time.sleep(seconds / SAMPLES_PER_PHASE)
            measured.append(self._server.measure())
        self._server.check_alive()
        self.phases.append((begun, time.monotonic(), True))
        if None not in measured:  # the least of the phase: what is needed for a moment is no growth
            self.samples.append((time.monotonic(), self._server.pid, *map(min, zip(*measured, strict=True))))

    def _wait_until_loaded(self):
        """Wait until no version is being loaded, which would take from the calm phase."""
        deadline = time.monotonic() + COLLECT_SECONDS
        while time.monotonic() < deadline and any(event.end == float("inf") for event in self._server.events):
            time.sleep(0.1)

    def _disturb(self, seconds, *, restarts):
        begun = time.monotonic()
        restart_time = begun + self._rng.uniform(0, seconds / 2) if restarts else float("inf")
        self._disturbing.set()
        while time.monotonic() - begun < seconds:
            time.sleep(self._rng.uniform(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS))
            self._server.check_alive()
            if time.monotonic() > restart_time:
                restart_time = float("inf")
                next(self._restarts)()
            else:
                next(self._disturbances)()
        self._disturbing.clear()
        self.phases.append((begun, time.monotonic(), False))

    def _deal(self, *actions):
        """Yield all actions in random order, again and again."""
        while True:
            yield from self._rng.sample(actions, len(actions))

    def _choose_model(self):
        return self._rng.choice(sorted(path.name for path in self._server.models.iterdir()))


@contextlib.contextmanager
def run_beside(target, *arguments):
    """Run a function in a process, with the end of a pipe as last argument; yields the other end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def collect(pipe):
    """Return what a process sends at its end.

    Raises:
        EOFError: It ended before.
        TimeoutError: It sent nothing.
    """
    if not pipe.poll(COLLECT_SECONDS):
        raise TimeoutError
    return pipe.recv()


def prepare_models(repository, models):
    """Copy the models of a repository, add a small network if there are fewer than MODELS, and return manifests by name."""
    for path in filter(Path.is_dir, repository.iterdir()):
        shutil.copytree(path / "1", models / path.name / "1")
    manifests = {path.name: read_artifact(models, path.name, 1).manifest for path in models.iterdir()}
    if len(manifests) < MODELS:
        publish_mlp(next(iter(manifests.values())), models)
        manifests["mlp"] = read_artifact(models, "mlp", 1).manifest
    return manifests


def run_chaos(arguments, root):
    """Run everything, and return what was recorded."""
    manifests = prepare_models(arguments.repository, root / "models")
    scripts = make_scripts(manifests.values(), arguments.rows, arguments.seed)
    with run_server(repository=root / "models", transport=arguments.transport, canary=False) as (_, port, _):
        scripts = record_expected(scripts, port)
    context = multiprocessing.get_context("spawn")
    disturbing, stop, network_stop = context.Event(), context.Event(), context.Event()
    server = ChaosServer(root, arguments.transport)
    unreliable_ports = [find_free_port() for _ in range(STREAMS)]  # a port each: gRPC shares the connection to an address
    routes = [("straight", server.port)] * STREAMS + [("unreliable", port) for port in unreliable_ports]
    seed = arguments.seed
    artifact = (arguments.repository, min(name for name in manifests if name != "mlp"), 1)
    chaos = Chaos(server, random.Random(seed), disturbing)
    server.start()
    try:
        with (
            run_echo_server() as (_, echo_port),
            run_beside(run_network, unreliable_ports, server.port, seed, disturbing, network_stop) as network_pipe,
            run_beside(run_callers, server.port, echo_port, artifact, scripts, stop) as callers_pipe,
            run_beside(run_streams, scripts, routes, seed, stop) as streams_pipe,
            run_beside(
                run_peers, server.port, artifact, GROUPS_BY_TRANSPORT[arguments.transport], seed, disturbing, stop
            ) as peers_pipe,
        ):
            chaos.run(60 * arguments.minutes)
            stop.set()
            calls, failures, called = collect(callers_pipe)
            sessions = collect(streams_pipe)
            innocents, peers = collect(peers_pipe)
            network_stop.set()
            network, holes = collect(network_pipe)
    finally:
        server.close()
        if arguments.log:
            shutil.copyfile(root / "server.log", arguments.log)
    return Run(
        phases=chaos.phases,
        samples=chaos.samples,
        events=server.events,
        faults=server.faults,
        errors=server.errors,
        lines=server.lines,
        sessions=[*sessions, *called],
        calls=calls,
        failures=failures,
        innocents=innocents,
        peers=peers,
        network=network,
        holes=holes,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="length of the run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (default: %(default)s)")
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=300, help="rows of each series of a stream (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--log", type=Path, help="file to copy the server's log to")
    add_transport_argument(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = run_chaos(arguments, Path(temporary))
    faults = find_faults(run, judges_speed=arguments.minutes >= MIN_JUDGED_MINUTES)
    print_report(run, faults)
    if arguments.json:
        arguments.json.write_text(json.dumps(to_json(run, faults), indent=1) + "\n")


if __name__ == "__main__":
    main()
