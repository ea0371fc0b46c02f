"""The client's stream and the server's state: connections that break anywhere, and servers that restart."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.client import Client, Observation, ObservationBatch, ResumePolicy, Verdict, VerdictStatus
from tests.support.cutting_proxy import cutting_proxy
from tests.support.models.tiny import FEATURES, ROWS, SLIDE, publish_tiny
from tests.support.running_server import RunningServer, running_server

START = datetime(2019, 1, 1, tzinfo=UTC)
QUICK = ResumePolicy(total_seconds=20, first_wait_seconds=0.001, longest_wait_seconds=0.01)
_sensors = count()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    publish_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with running_server(repository=repository) as running:
        yield running


def make_observations(rows: int = 40, names: tuple[str, ...] = ("a", "b")) -> list[Observation]:
    """Rows of several series, interleaved, with a burst, a missing value and a short gap in each."""
    rng = np.random.default_rng(11)
    observations = []
    for row in range(rows):
        for position, name in enumerate(names):
            values = rng.gamma(50.0, 20.0, len(FEATURES)).round()
            values *= 8 if row in (20 + position, 21 + position) else 1
            values[1] = np.nan if row == 15 else values[1]
            if row != 28 + position:
                observations.append(Observation(name, START + timedelta(seconds=SLIDE * row), values))
    return observations


def batches(rows: list[Observation], size: int) -> list[ObservationBatch]:
    parts = [rows[at : at + size] for at in range(0, len(rows), size)]
    return [
        ObservationBatch(
            series=[row.series for row in part], times=[row.time for row in part], values=[row.values for row in part]
        )
        for part in parts
    ]


def score(address: str, rows: list, *, sensor: str, in_flight: int = 1) -> list[Verdict]:
    with Client(address, timeout_seconds=5) as client:
        return list(client.stream_detect(rows, sensor=sensor, in_flight=in_flight, explain="all", resume=QUICK))


def test_the_verdicts_are_those_of_detect(server: RunningServer) -> None:
    rows = make_observations(names=("a",))
    streamed = score(server.address, rows, sensor="like detect")
    with Client(server.address) as client:
        result = client.detect([row.time for row in rows], [row.values for row in rows], series="a", impute_rows=6)
    assert [verdict.status for verdict in streamed[:ROWS]] == [VerdictStatus.WARMING_UP] * ROWS
    assert [verdict.p_value for verdict in streamed[ROWS:]] == result.p_values.tolist()
    assert [verdict.anomalous for verdict in streamed[ROWS:]] == result.anomalous.tolist()
    assert result.anomalous.any()


@pytest.fixture(scope="module", params=["rows", "batches"])
def sent_and_expected(server: RunningServer, request: pytest.FixtureRequest) -> tuple[list, list[Verdict]]:
    """Rows or batches, and their verdicts over a connection that does not break."""
    sent: list = make_observations() if request.param == "rows" else batches(make_observations(), 7)
    return sent, score(server.address, sent, sensor=f"unbroken {next(_sensors)}")


@pytest.mark.parametrize("seed", range(6))
def test_verdicts_do_not_depend_on_where_the_connection_was_cut(
    server: RunningServer, sent_and_expected: tuple[list, list[Verdict]], seed: int
) -> None:
    sent, expected = sent_and_expected
    rng = np.random.default_rng(seed)
    # From inside the handshake to after many answers; several small ones break a stream while it reconnects. The first
    # connection has to be established, because a client that never reached its server gives up.
    cuts = [int(cut) for cut in rng.choice([rng.integers(1, 400), rng.integers(400, 3_000)], 8)]
    with cutting_proxy(server.address, [600, *cuts]) as proxy:
        verdicts = score(proxy.address, sent, sensor=f"broken {next(_sensors)}", in_flight=1 + seed % 3)
        assert proxy.connections > 1
    assert verdicts == expected


def test_a_restart_loses_no_verdict(repository: Path) -> None:
    rows = make_observations()
    with running_server(repository=repository) as first:
        expected = score(first.address, rows, sensor="unbroken")
        verdicts = []
        with Client(first.address, timeout_seconds=5) as client:
            stream = client.stream_detect(rows, sensor="broken", explain="all", resume=QUICK)
            for verdict in stream:
                verdicts.append(verdict)
                if len(verdicts) == 36:
                    break
            address = first.address
            first.stop()
            with running_server(repository=repository, address=address):
                verdicts.extend(stream)
    without_episodes = [dataclasses.replace(verdict, episode=None, drift=False) for verdict in verdicts]
    assert without_episodes == [dataclasses.replace(verdict, episode=None, drift=False) for verdict in expected]


def test_a_restarted_client_continues_where_it_stopped(server: RunningServer) -> None:
    rows = make_observations()
    expected = score(server.address, rows, sensor="whole")
    assert score(server.address, rows[:30], sensor="parts") + score(server.address, rows[30:], sensor="parts") == expected


def test_several_streams_of_one_sensor_all_go_on_after_a_restart(repository: Path) -> None:
    rows = make_observations(names=("a",))
    names = ("one", "two", "three")

    def source(name: str) -> Iterator[Observation]:
        return (Observation(name, row.time, row.values) for row in rows)

    def without_names(verdicts: list[Verdict]) -> list[Verdict]:
        return [dataclasses.replace(verdict, series="", episode=None, drift=False) for verdict in verdicts]

    first = RunningServer(repository=repository)
    expected = score(first.address, rows, sensor="undisturbed")
    with Client(first.address, timeout_seconds=5) as client:
        streams = [client.stream_detect(source(name), explain="all", resume=QUICK) for name in names]
        before = [[next(stream) for _ in range(25)] for stream in streams]
        first.stop()
        with running_server(repository=repository, address=first.address):
            verdicts = [part + list(stream) for part, stream in zip(before, streams, strict=True)]
    assert [without_names(each) for each in verdicts] == [without_names(expected)] * len(names)
