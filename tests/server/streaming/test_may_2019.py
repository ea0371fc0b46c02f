"""May 2019, real traffic through the shipped model: every way of asking gives the same verdicts to the bit.

At a fixed level, as Detect judges; tests/server/streaming/test_adaptation.py is about the level that adapts.
"""

import numpy as np
import pytest

from mods_grpc.client import Client, Observation, ObservationBatch, ResumePolicy, VerdictStatus
from tests.support.cutting_proxy import cutting_proxy
from tests.support.real_data import ROOT, needs_mods_2019, read_mods_2019
from tests.support.running_server import running_server

pytestmark = [needs_mods_2019, pytest.mark.timeout(300)]

QUICK = ResumePolicy(total_seconds=30, first_wait_seconds=0.001, longest_wait_seconds=0.01)
HORIZON = 12  # of the model
# rows of the streams that are cut, and of each series of many; whole May is compared in batches, and row by row in the slow tests
CUT_ROWS = 1_200
OPTIONS = {"model": "mods-2019", "false_alarms_per_day": 1.0, "impute_rows": 6}


@pytest.fixture(scope="module")
def may():
    times, values = read_mods_2019("2019-05-01", "2019-06-01")
    assert len(times) == 4464
    return times, values


@pytest.fixture(scope="module")
def server():
    with running_server(repository=ROOT / "exported") as running:
        yield running


@pytest.fixture(scope="module")
def at_once(server, may):
    """Detect in one go: p-values and alarms of every row that has a window before it."""
    with Client(server.address) as client:
        return client.detect(*may, series="site", explain="all", **OPTIONS)


def stream(address, given, sensor, explain="none"):
    with Client(address) as client:
        options = {"sensor": sensor, "explain": explain, "resume": QUICK, "fixed_level": True}
        verdicts = list(client.stream_detect(given, **options, **OPTIONS))
    judged = [verdict for verdict in verdicts if verdict.status is not VerdictStatus.WARMING_UP]
    assert all(verdict.status is VerdictStatus.SCORED for verdict in judged)
    return judged


def rows(times, values):
    return [Observation("site", time, row) for time, row in zip(times, values, strict=True)]


def batches(times, values, size):
    starts = range(0, len(times), size)
    return [
        ObservationBatch(series=["site"] * len(times[i : i + size]), times=times[i : i + size], values=values[i : i + size])
        for i in starts
    ]


def assert_same(verdicts, result):
    np.testing.assert_array_equal([verdict.p_value for verdict in verdicts], result.p_values)
    np.testing.assert_array_equal([verdict.anomalous for verdict in verdicts], result.anomalous)


@pytest.mark.parametrize("count", [CUT_ROWS, pytest.param(None, marks=pytest.mark.slow)], ids=["its first days", "all of it"])
def test_single_rows_get_the_verdicts_and_explanations_of_one_batch(server, may, at_once, count):
    times, values = may
    verdicts = stream(server.address, rows(times[:count], values[:count]), f"rows {count}", explain="all")
    scored = len(verdicts)
    np.testing.assert_array_equal([verdict.p_value for verdict in verdicts], at_once.p_values[:scored])
    np.testing.assert_array_equal([verdict.anomalous for verdict in verdicts], at_once.anomalous[:scored])
    assert at_once.anomalous[:scored].sum() > 0
    assert scored == len(at_once.p_values) or count is not None
    written = [(v.observe_time, v.reason, v.features, v.episode, v.score) for v in verdicts]
    assert written == [(v.observe_time, v.reason, v.features, v.episode, v.score) for v in at_once.verdicts[:scored]]


def test_batches_of_seven_are_the_same(server, may, at_once):
    assert_same(stream(server.address, batches(*may, 7), "batches"), at_once)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stream_cut_and_resumed_at_five_random_places_is_the_same(server, may, at_once, seed):
    rng = np.random.default_rng(seed)
    cuts = [600, *rng.integers(1_000, 16_000, 5).tolist()]
    times, values = may
    with cutting_proxy(server.address, cuts) as proxy:
        verdicts = stream(proxy.address, rows(times[:CUT_ROWS], values[:CUT_ROWS]), f"cut {seed}")
        assert proxy.connections >= 6
    np.testing.assert_array_equal([verdict.p_value for verdict in verdicts], at_once.p_values[: len(verdicts)])
    np.testing.assert_array_equal([verdict.anomalous for verdict in verdicts], at_once.anomalous[: len(verdicts)])
    assert len(verdicts) > CUT_ROWS - 100


def test_many_series_together_get_the_verdicts_of_each_alone(server, may, at_once):
    times, values = may
    count = CUT_ROWS
    given = [
        ObservationBatch(
            series=[f"site {k}" for k in range(6)],
            times=[times[i + k * 100] for k in range(6)],
            values=[values[i + k * 100] for k in range(6)],
        )
        for i in range(count)
    ]
    verdicts = stream(server.address, given, "many")
    for k in range(6):
        mine = [verdict.p_value for verdict in verdicts if verdict.series == f"site {k}"]
        begins = HORIZON if k else 0  # until then no forecast made that many steps before is at hand
        np.testing.assert_array_equal(mine[begins:], at_once.p_values[k * 100 + begins : k * 100 + len(mine)])
