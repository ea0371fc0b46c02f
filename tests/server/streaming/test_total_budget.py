"""A stream with one budget for all series of its sensor: the same however rows are sent, and after a reconnect or a reload."""

import numpy as np
import pytest

from mods_grpc.client import Client, Observation, ObservationBatch, VerdictStatus
from mods_grpc.errors import InvalidInputError
from tests.support.models.tiny import publish_tiny
from tests.support.running_server import running_server

SERIES, COUNT, TOTAL, SLIDE = 30, 260, 4.0, 600 * 10**9
NAMES = [f"host-{index}" for index in range(SERIES)]
TIMES = 1_556_668_800 * 10**9 + np.arange(COUNT) * SLIDE
# more restless than what the model was calibrated on, so that with a budget each it alarms far more often
VALUES = np.random.default_rng(9).gamma(40.0, 25.0, (COUNT, SERIES, 2))
ATTACK = (250, 3)
VALUES[ATTACK] *= 30


@pytest.fixture
def repository(tmp_path):
    publish_tiny(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def server(repository):
    with running_server(repository=repository) as running:
        yield running


def batches(first=0, last=COUNT):
    rows = range(first, last)
    return [ObservationBatch(series=NAMES, times=np.full(SERIES, TIMES[row]), values=VALUES[row]) for row in rows]


def stream(address, given, sensor="zeek", **options):
    options = options or {"total_false_alarms_per_day": TOTAL}
    with Client(address) as client:
        return list(client.stream_detect(given, sensor=sensor, **options))


def alarms(verdicts):
    return [
        (verdict.series, verdict.observe_time, verdict.p_value, verdict.episode.id)
        for verdict in verdicts
        if verdict.status is VerdictStatus.SCORED and verdict.anomalous
    ]


def episodes(verdicts):
    return {(series, episode) for series, _, _, episode in alarms(verdicts)}


def test_all_series_of_a_sensor_share_one_budget(server):
    together, each = stream(server.address, batches()), stream(server.address, batches(), "other", false_alarms_per_day=1.0)
    assert 1 <= len(episodes(together)) <= 3 * TOTAL * COUNT / 144
    assert len(episodes(together)) < len(episodes(each)) / 4
    attacked = (NAMES[ATTACK[1]], np.datetime64(int(TIMES[ATTACK[0]]), "ns"))
    assert attacked in {(series, np.datetime64(time.replace(tzinfo=None), "ns")) for series, time, *_ in alarms(together)}
    assert all(verdict.features for verdict in together if verdict.anomalous)


def test_a_stream_that_ends_and_begins_again_goes_on(server):
    expected = alarms(stream(server.address, batches()))
    parts = stream(server.address, batches(0, 130), "parts") + stream(server.address, batches(130), "parts")
    assert alarms(parts) == expected


def test_a_new_version_of_the_model_goes_on(server, repository):
    expected = alarms(stream(server.address, batches()))

    def with_reload():
        yield from batches(0, 130)
        publish_tiny(repository, version=2)
        server.rescan()
        yield from batches(130)

    assert [alarm[:2] for alarm in alarms(stream(server.address, with_reload(), "reloaded"))] == [alarm[:2] for alarm in expected]


def test_rows_one_by_one_are_judged_by_the_same_rule(server):
    rows = [
        Observation(name, time, row) for time, at in zip(TIMES, VALUES, strict=True) for name, row in zip(NAMES, at, strict=True)
    ]
    single = stream(server.address, rows)
    together = stream(server.address, batches(), "batches")
    # the common factor moves between the rows of one time, so that single levels differ a little
    assert abs(len(episodes(single)) - len(episodes(together))) <= 3
    assert all(verdict.features for verdict in single if verdict.anomalous)


@pytest.mark.parametrize(
    "options",
    [
        {"total_false_alarms_per_day": 0.0},
        {"total_false_alarms_per_day": float("nan")},
        {"total_false_alarms_per_day": 2.0, "false_alarms_per_day": 1.0},
        {"total_false_alarms_per_day": 2.0, "fixed_level": True},
    ],
)
def test_a_total_out_of_range_or_beside_another_level_is_refused(server, options):
    with pytest.raises(InvalidInputError, match="total_false_alarms_per_day"):
        stream(server.address, batches(0, 1), **options)
