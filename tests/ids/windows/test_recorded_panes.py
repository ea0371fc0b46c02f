"""Panes of recorded windows: as counted live, from tables of their own, or recovered; and a replay of each judges the same."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.cli.main import main
from mods_grpc.client import FeatureInfo
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import EXIT_FAILED, EXIT_USAGE
from mods_grpc.features import Aggregator, AggregatorOptions
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.watch.replay import read_windows
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.recorded import find_datapool, read_datapool
from mods_grpc.ids.windows.recorded_panes import PaneLayout, add_rows
from mods_grpc.ids.windows.window import WindowBatch, WindowColumns
from tests.support.ids import live_day
from tests.support.models.panes import HAS_PANES, PANES, make_pane_manifest, publish_panes
from tests.support.running_server import running_server

WINDOW, SLIDE = 1_200, 400
NANOS = NANOS_PER_SECOND
LAYOUT = PaneLayout(("conn_in", "ssh_in"), np.array([True, False]), WINDOW * NANOS, SLIDE * NANOS)


def feature(name, protocol, column, *, pane):
    limits = {"training_minimum": 0.0, "training_maximum": 9.0}
    return FeatureInfo(name=name, unit="MB", protocol=protocol, column=column, kind="sum", pane=pane, **limits)


COLUMNS = WindowColumns(
    [
        feature("ssh_in", "ssh", "in", pane=True),
        feature("mean", "conn", "in_avg_duration", pane=False),
        feature("sent", "conn", "in_sum_orig_bytes", pane=True),
    ]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Logs of four hours, and their datapools with and without panes."""
    folder = tmp_path_factory.mktemp("panes")
    (folder / "logs").mkdir()
    entries = live_day.make_lines(240, 2.0)
    for log in live_day.COLUMNS:
        lines = [line for _, of, line in entries if of == log]
        (folder / "logs" / f"{log}.log").write_text(live_day.format_header(log) + "".join(lines))
    words = ["aggregate", folder / "logs", "--window", f"{WINDOW}s", "--slide", f"{SLIDE}s", "--local", "10.0.0.0/24"]
    assert main([*map(str, words), "--output", str(folder / "whole")]) == 0
    assert main([*map(str, words), "--output", str(folder / "pool"), "--panes"]) == 0
    return folder


def feed_of(logs):
    aggregator = Aggregator(
        COLUMNS.definition,
        AggregatorOptions(window_seconds=WINDOW, slide_seconds=SLIDE, local_networks=("10.0.0.0/24",), with_panes=True),
    )
    return WindowFeed(LogReader([logs], protocols=COLUMNS.definition.protocols), aggregator, COLUMNS, lateness_seconds=86_400)


def as_lists(batches):
    return [(batch.start_ns, batch.series, batch.values.tolist(), batch.rows.tolist()) for batch in batches]


def test_rows_of_logs_and_of_a_datapool_are_the_same_and_windows_their_sums(folder):
    fed = [batch for group in read_windows(feed_of(folder / "logs")) for batch in group]
    divisors = COLUMNS.divisors.tolist()
    pool = find_datapool(folder / "pool", WINDOW, SLIDE)
    batches = read_datapool(pool, COLUMNS.keys, divisors, "site")
    layout = PaneLayout(COLUMNS.names, COLUMNS.has_panes, WINDOW * NANOS, SLIDE * NANOS)
    read = list(add_rows(batches, layout, datapool=pool, keys=COLUMNS.keys, divisors=divisors))
    assert len(fed) > 20
    assert as_lists(fed) == as_lists(read)
    rows = np.concatenate([batch.rows for batch in fed])
    windows = np.concatenate([batch.values for batch in fed])
    sums = sum(rows[back : len(rows) - PANES + 1 + back] for back in range(PANES))
    np.testing.assert_allclose(windows[PANES - 1 :, [0, 2]], sums[:, [0, 2]], rtol=1e-12)
    np.testing.assert_array_equal(rows[:, 1], windows[:, 1])
    assert (rows[:, 0] < windows[:, 0]).any()


def test_the_panes_of_the_last_window_are_those_of_the_last_rows_over_a_restart(folder):
    feed = feed_of(folder / "logs")
    rows = [batch.rows[0] for group in feed.poll() for batch in group]
    assert not rows  # within a day more may come
    feed._lateness_ns = 0
    feed.watermark.flush()
    batches = [batch for group in feed._advance(feed.watermark.latest_ns) for batch in group]
    again = feed_of(folder / "logs")
    again.restore(json.loads(json.dumps(feed.state())))
    for last in (feed.last_panes(), again.last_panes()):
        assert last.start_ns == batches[-1].start_ns
        expected = [np.where(COLUMNS.has_panes, batch.rows[0], np.nan) for batch in batches[-PANES:]]
        np.testing.assert_array_equal(last.panes["site"], expected)


def test_pending_windows_come_back_with_their_rows(folder):
    batches = [batch for group in read_windows(feed_of(folder / "logs")) for batch in group][:3]
    batches[1] = replace(batches[1], rows=None)
    batches[2].rows[0, 0] = batches[2].values[0, 0] = np.nan
    again = [WindowBatch.from_json(json.loads(json.dumps(batch.to_json()))) for batch in batches]
    assert again[1].rows is None
    np.testing.assert_array_equal(again[1].values, batches[1].values)
    for index in (0, 2):
        np.testing.assert_array_equal(again[index].rows, batches[index].rows)
        np.testing.assert_array_equal(again[index].values, batches[index].values)


def windows_of(panes, holes=()):
    """Batches of the windows of panes of one series, but for the holes."""
    whole = np.convolve(panes, np.ones(PANES))[PANES - 1 : len(panes)]
    for index, window in enumerate(whole.tolist()):
        if index not in holes:
            yield WindowBatch(start_ns=index * SLIDE * NANOS, series=("site",), values=np.array([[window, 5.0]]))


def test_panes_are_recovered_where_windows_tell_them():
    rng = np.random.default_rng(1)
    panes = np.round(rng.gamma(1.0, 20.0, 60)) * (rng.random(60) < 0.4)
    rows = {batch.start_ns // (SLIDE * NANOS): batch.rows for batch in add_rows(windows_of(panes, holes=(20, 22)), LAYOUT)}
    for index, ((pane, other),) in rows.items():
        assert other == 5.0
        if index == 21:  # alone between two holes
            assert np.isnan(pane)
        else:
            assert pane == panes[index + PANES - 1]
    assert len(rows) == 60 - PANES + 1 - 2


def test_a_datapool_without_panes_that_do_not_follow_is_refused():
    with pytest.raises(DataError, match="replay the logs, or a datapool that aggregate wrote with --panes"):
        list(add_rows(windows_of(np.arange(50.0) % 7 + 100), LAYOUT))


def test_a_feature_that_is_no_sum_has_no_panes():
    with pytest.raises(DataError, match=r"windows of conn\|in_avg_duration are no sums of them"):
        WindowColumns([feature("mean", "conn", "in_avg_duration", pane=True)])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server of a model of the panes of connections, and whole windows of SSH connections."""
    repository = tmp_path_factory.mktemp("models")
    columns = (("conn_in", "conn", "in_count_uid"), ("ssh_in", "ssh", "in"))
    features = tuple(
        replace(each, name=name, protocol=protocol, column=column, pane=pane)
        for each, (name, protocol, column), pane in zip(make_pane_manifest().features, columns, HAS_PANES, strict=True)
    )
    publish_panes(repository, features=features, window_seconds=WINDOW, slide_seconds=SLIDE)
    with running_server(repository=repository) as server:
        yield server.address


def replayed(address, *words):
    """Exit status, alerts and counts of a replay."""
    output = io.StringIO()
    with redirect_stdout(output):
        status = main(["replay", *map(str, words), "--server", address, "--alerts", "-", "--json"])
    *alerts, counts = map(json.loads, output.getvalue().splitlines())
    return status, alerts, counts


def facts(alerts):
    """What alerts say but for their identity and the evidence, which windows that were aggregated have not."""
    left_out = {"id", "reason", "evidence", "aggregates"}
    return [{name: value for name, value in alert.items() if name not in left_out} for alert in alerts]


def test_a_replay_of_logs_and_of_their_datapool_judge_the_same(address, folder):
    options = ["--significance", "0.02", "--local", "10.0.0.0/24"]
    _, of_logs, counts = replayed(address, folder / "logs", *options, "--no-rule", "all")
    _, of_pool, pool_counts = replayed(address, folder / "pool", *options)
    assert counts["windows"] == pool_counts["windows"] > 20
    assert counts["account"]["judged"] == pool_counts["account"]["judged"] > 10
    assert facts(of_logs) == facts(of_pool) != []


def test_a_replay_of_whole_windows_says_what_to_do(address, folder, capsys):
    assert main(["replay", str(folder / "whole"), "--server", address, "--dry-run"]) == EXIT_FAILED
    error = capsys.readouterr().err
    assert "the model's rows hold panes of conn_in" in error
    assert "--model-version" in error


def test_aggregate_writes_panes_of_overlapping_windows_only(folder, capsys):
    words = ["aggregate", folder / "logs", "--output", folder / "other", "--window", "15m", "--slide", "10m", "--panes"]
    assert main([str(word) for word in words]) == EXIT_USAGE
    assert "overlap by whole slides" in capsys.readouterr().err
