"""The level of a series adapts on streams, in the same way however it is sent, and nowhere else; its scales where asked to."""

import numpy as np
import pytest

from mods_grpc.alarm_rules.adaptation import MAX_FACTOR, MIN_FACTOR, START_MULTIPLIER, Adaptation
from mods_grpc.alarm_rules.episode_rule import Phase
from mods_grpc.client import Client, Observation, ObservationBatch, ResumePolicy, VerdictStatus
from mods_grpc.detection import Monitor, significance_from_budget
from tests.support.cutting_proxy import cutting_proxy
from tests.support.models.tiny import publish_tiny
from tests.support.running_server import running_server

QUICK = ResumePolicy(total_seconds=30, first_wait_seconds=0.001, longest_wait_seconds=0.01)
SLIDE = 600 * 10**9
COUNT, BUDGET = 450, 6.0
TIMES = 1_556_668_800 * 10**9 + np.arange(COUNT) * SLIDE
# twice as restless as what the model was calibrated on, so that it alarms far more often than the budget says
VALUES = np.random.default_rng(9).gamma(20.0, 50.0, (COUNT, 2))


@pytest.fixture
def repository(tmp_path):
    publish_tiny(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def server(repository):
    with running_server(repository=repository) as running:
        yield running


def rows(first=0, last=COUNT):
    return [Observation("site", time, row) for time, row in zip(TIMES[first:last], VALUES[first:last], strict=True)]


def batches(size):
    parts = [slice(first, first + size) for first in range(0, COUNT, size)]
    return [ObservationBatch(series=["site"] * len(TIMES[part]), times=TIMES[part], values=VALUES[part]) for part in parts]


def stream(address, given, sensor="zeek", **options):
    options = {"false_alarms_per_day": BUDGET} | options
    with Client(address) as client:
        return list(client.stream_detect(given, sensor=sensor, resume=QUICK, **options))


def flags(verdicts):
    return [verdict.anomalous for verdict in verdicts if verdict.status is VerdictStatus.SCORED]


def detected(address, **options):
    with Client(address) as client:
        return client.detect(TIMES, VALUES, series="site", **{"false_alarms_per_day": BUDGET} | options).anomalous.tolist()


def factor_of(server):
    all_series = server.model().series
    return all_series.table.factor[all_series.find_slot("zeek", "site")]


def scales_of(server):
    all_series = server.model().series
    return all_series.table.log_scale[all_series.find_slot("zeek", "site")].copy()


def p_values(verdicts):
    return [verdict.p_value for verdict in verdicts if verdict.status is VerdictStatus.SCORED]


def replayed(model, **options):
    verdicts, table = replay(model, **options)
    return verdicts.anomalous[4:].tolist(), table.factor[0]


def replay(model, **options):
    table = model.series.table.empty_like()
    verdicts = Monitor(model.detector, model.forecast, table, slide_seconds=600, holdoff_rows=6, **options).observe(
        np.full(COUNT, table.allocate()),
        TIMES,
        VALUES,
        reported=np.ones(COUNT, bool),
        significance=significance_from_budget(BUDGET, 600, model.detector.calibration),
        impute_rows=6,
    )
    return verdicts, table


def test_the_level_adapts_alike_for_single_rows_batches_cut_streams_and_replays(server):
    expected, factor = replayed(server.model(), adapt=True)
    assert sum(expected) < 0.95 * sum(detected(server.address))
    assert MIN_FACTOR <= factor < START_MULTIPLIER
    assert flags(stream(server.address, rows())) == expected
    assert factor_of(server) == factor
    assert flags(stream(server.address, batches(7), "batches")) == expected
    assert flags(stream(server.address, batches(COUNT), "whole")) == expected
    with cutting_proxy(server.address, [600, 2_000, 9_000, 20_000]) as proxy:
        assert flags(stream(proxy.address, rows(), "cut")) == expected
        assert proxy.connections >= 4


@pytest.mark.parametrize("options", [{"fixed_level": True}, {"false_alarms_per_day": None, "significance": 0.05}])
def test_the_level_is_fixed_on_request_and_for_a_significance(server, options):
    level = {key: value for key, value in options.items() if key != "fixed_level"}
    assert flags(stream(server.address, rows(), **options)) == detected(server.address, **level)
    assert factor_of(server) == 1.0


def test_scales_adapt_to_the_series_on_request_however_rows_are_sent(server):
    verdicts, table = replay(server.model(), adapt=True, own_scales=True)
    expected = verdicts.p_value[4:].tolist()
    assert table.log_scale[0].mean() > 0.2
    assert p_values(stream(server.address, rows(), own_scales=True)) == expected
    np.testing.assert_array_equal(scales_of(server), table.log_scale[0])
    whole = stream(server.address, batches(COUNT), "whole", own_scales=True)
    assert p_values(whole) == expected
    assert p_values(stream(server.address, batches(7), "batches", own_scales=True)) == expected
    assert p_values(stream(server.address, rows(), "pooled")) != expected
    assert sum(flags(whole)) < sum(detected(server.address))


def test_scales_outlive_a_restart_with_a_state_file_and_end_with_the_model(repository, tmp_path, server):
    expected = p_values(stream(server.address, rows(), own_scales=True))
    actual = []
    for first in range(0, COUNT, 225):
        with running_server(repository=repository, state_file=str(tmp_path / "state")) as again:
            actual += p_values(stream(again.address, rows(first, first + 225), own_scales=True))
    assert actual == expected
    assert scales_of(server).any()
    publish_tiny(repository, version=2)
    server.rescan()
    assert not scales_of(server).any()


def test_the_level_outlives_a_restart_with_a_state_file(repository, tmp_path, server):
    expected = flags(stream(server.address, rows()))
    actual = []
    for first in range(0, COUNT, 150):
        with running_server(repository=repository, state_file=str(tmp_path / "state")) as again:
            actual += flags(stream(again.address, rows(first, first + 150)))
    assert actual == expected


def test_a_new_version_which_was_calibrated_anew_starts_from_its_own_level(server, repository):
    stream(server.address, rows(0, 300))
    assert factor_of(server) != 1.0
    publish_tiny(repository, version=2)
    server.rescan()
    assert server.model().manifest.version == 2
    assert factor_of(server) == 1.0


def test_the_factor_stays_within_its_bounds():
    rule, factor = Adaptation(0.01), 1.0
    for _ in range(100):
        factor = rule.next_factor(factor, Phase.STARTED)
    assert factor == MIN_FACTOR
    for _ in range(3000):
        factor = rule.next_factor(factor, Phase.NONE)
    assert factor == MAX_FACTOR
