"""A model whose rows hold panes: the watch sends these, and judges, explains and remembers whole windows."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.client import Client, Observation, VerdictStatus
from mods_grpc.errors import ModsError, Reason
from mods_grpc.ids.watch.scoring.level_correction import Correction
from mods_grpc.ids.watch.scoring.options import ScoringOptions
from mods_grpc.ids.watch.scoring.scoring_client import RECENT_WINDOWS, ScoringClient
from mods_grpc.ids.windows.window import LastPanes, WindowBatch
from tests.support.models.panes import HAS_PANES, PANES, publish_panes
from tests.support.models.tiny import FEATURES, LEVELS, ROWS, SLIDE, publish_tiny
from tests.support.rpc.client import at
from tests.support.running_server import running_server

COUNT, NAMES = 90, ("desk", "server")
GENERATOR = np.random.default_rng(6)
PANE_ROWS = np.round(LEVELS[:COUNT, None] * np.array([1.0, 30.0])[:, None] * GENERATOR.lognormal(0, 0.2, (COUNT, 2, 2)))
PANE_ROWS[70, 0] *= 20
OPTIONS = ScoringOptions(model="tiny", namespace="watch", significance=0.003, explain="all")


def add_up(rows):
    """The windows of rows from the beginning of the counting, before which there was nothing."""
    windows = rows.copy()
    has_panes = np.array(HAS_PANES)
    for row in range(len(rows)):
        windows[row][:, has_panes] = rows[max(0, row - PANES + 1) : row + 1][:, :, has_panes].sum(axis=0)
    return windows


WINDOWS = add_up(PANE_ROWS)


def batch(row, rows=PANE_ROWS, windows=WINDOWS):
    return WindowBatch(start_ns=at(row), series=NAMES, values=windows[row], rows=rows[row])


class Watch:
    """A watch that scores windows, from a state on."""

    def __init__(self, client, state=None, last_panes=None, **changes):
        self.scorer = ScoringClient(client, client.model("tiny"), replace(OPTIONS, **changes))
        if state is not None:
            self.scorer.restore(json.loads(json.dumps(state)), last_panes)
        self.scorer.open()

    def score(self, rows):
        return [verdict for row in rows for verdict in self.scorer.score(batch(row))]

    def stop(self):
        self.scorer.close()
        return self.scorer.state()


def watch(client, rows, state=None, **options):
    running = Watch(client, state, **options)
    return running.score(rows), running.stop()


def facts(verdicts):
    return [(v.series, v.observe_time, v.status, v.p_value, v.score, v.anomalous, v.reason, v.features) for v in verdicts]


@pytest.fixture
def repository(tmp_path):
    publish_panes(tmp_path)
    return tmp_path


def test_verdicts_are_those_of_a_stream_of_panes_and_their_values_are_windows(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        verdicts, _ = watch(client, range(COUNT))
        rows = [Observation(name, at(row), PANE_ROWS[row, index]) for row in range(COUNT) for index, name in enumerate(NAMES)]
        options = {"model": "tiny", "sensor": "stream", "significance": 0.003, "explain": "all", "fixed_level": True}
        with client.stream_detect(iter(rows), panes=True, **options) as stream:
            expected = list(stream)
    assert [v.p_value for v in verdicts] == [v.p_value for v in expected]
    scored = [v for v in verdicts if v.status is VerdictStatus.SCORED]
    assert len(scored) == (COUNT - ROWS) * len(NAMES)
    for verdict in scored:
        row = round((verdict.observe_time.timestamp() * 1e9 - at(0)) / (at(1) - at(0)))
        observed = [feature.observed for feature in verdict.features]
        assert observed == pytest.approx(WINDOWS[row, NAMES.index(verdict.series)].tolist(), rel=1e-12)


@pytest.mark.parametrize("restarts", ["watch", "server"])
def test_verdicts_do_not_depend_on_restarts(repository, restarts):
    with running_server(repository=repository) as server, Client(server.address) as client:
        expected, _ = watch(client, range(COUNT))
    actual, state = [], None
    if restarts == "watch":
        with running_server(repository=repository) as server, Client(server.address) as client:
            for first in range(0, COUNT, 20):
                part, state = watch(client, range(first, min(first + 20, COUNT)), state)
                actual += part
    for first in range(0, COUNT, 30) if restarts == "server" else ():
        with running_server(repository=repository) as server, Client(server.address) as client:
            part, state = watch(client, range(first, first + 30), state)
            actual += part
    assert facts(actual) == facts(expected)


def test_a_window_that_the_server_has_seen_before_is_judged_the_same(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        running = Watch(client)
        running.score(range(40))
        state = running.scorer.state()
        expected = running.score(range(40, 43))
        running.stop()
        again, _ = watch(client, range(40, 43), state)
    assert [v.p_value for v in again] == [v.p_value for v in expected]


def test_recent_values_are_windows_over_a_restart(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        verdicts, state = watch(client, range(30))
        running = Watch(client, state)
        verdicts = running.score([30])
        recent = running.scorer.recent_values("server", FEATURES[0], verdicts[1].observe_time)
        assert recent == tuple(WINDOWS[31 - RECENT_WINDOWS : 31, 1, 0].tolist())
        assert running.scorer.recent_values("desk", FEATURES[1], verdicts[0].observe_time)[-1] == PANE_ROWS[30, 0, 1]
        assert running.scorer.recent_values("nobody", FEATURES[0], verdicts[0].observe_time) == ()
        running.stop()


def test_windows_without_panes_are_imputed_not_sent_as_panes(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        running = Watch(client)
        running.score(range(40))
        without = replace(batch(40), rows=None)
        (verdict, _) = running.scorer.score(without)
        observed = [feature.observed for feature in verdict.features]
        running.stop()
    assert verdict.status is VerdictStatus.SCORED
    assert observed == [None, pytest.approx(WINDOWS[40, 0, 1])]


def test_a_new_version_with_panes_leaves_a_running_watch_to_the_old_one_and_warms_the_next_watch_up(tmp_path, caplog):
    publish_tiny(tmp_path, window_seconds=PANES * SLIDE)
    with running_server(repository=tmp_path) as server, Client(server.address) as client:
        running = Watch(client)
        before = running.score(range(20))
        publish_panes(tmp_path, version=2)
        server.rescan()
        after = running.score(range(20, 40))
        state = running.stop()
        assert {v.model.version for v in before + after if v.status is VerdictStatus.SCORED} == {1}
        assert {v.status for v in after} == {VerdictStatus.SCORED}
        verdicts, _ = watch(client, range(40, 60), state)
    assert {v.model.version for v in verdicts} == {2}
    assert [v.status for v in verdicts[: 2 * ROWS]] == [VerdictStatus.WARMING_UP] * 2 * ROWS
    assert {v.status for v in verdicts[2 * ROWS :]} == {VerdictStatus.SCORED}
    assert "history_dropped" in [record.message for record in caplog.records]


def test_a_version_with_panes_is_warmed_up_with_those_that_follow_from_the_last_windows(tmp_path, caplog):
    publish_tiny(tmp_path / "whole", window_seconds=PANES * SLIDE)
    with running_server(repository=tmp_path / "whole") as server, Client(server.address) as client:
        running = Watch(client)
        running.score(range(40))
        without_desk = replace(batch(40), series=NAMES[1:], values=WINDOWS[40, 1:], rows=PANE_ROWS[40, 1:])
        running.scorer.score(without_desk)
        state = running.stop()
    last = np.where(HAS_PANES, PANE_ROWS[41 - PANES : 41], np.nan)
    last_panes = LastPanes(at(40), {name: last[:, index] for index, name in enumerate(NAMES)})
    publish_panes(tmp_path / "panes", version=2)
    with running_server(repository=tmp_path / "panes") as server, Client(server.address) as client:
        running = Watch(client, state, last_panes)
        verdicts = running.score(range(41, 45))
        recent = running.scorer.recent_values("server", FEATURES[0], verdicts[-1].observe_time)
        running.stop()
        expected, _ = watch(client, range(20, 45), namespace="anew")
    assert recent == tuple(WINDOWS[45 - RECENT_WINDOWS : 45, 1, 0].tolist())
    of_server = [v for v in verdicts if v.series == "server"]
    assert [v.p_value for v in of_server] == [v.p_value for v in expected if v.series == "server"][-4:]
    assert {v.status for v in verdicts if v.series == "desk"} == {VerdictStatus.WARMING_UP}  # its last window is another one
    (record,) = [record for record in caplog.records if record.message == "history_dropped"]
    assert record.series == 1


def test_a_version_without_panes_after_one_with_them_is_warmed_up_with_windows(tmp_path):
    publish_panes(tmp_path, version=1)
    with running_server(repository=tmp_path) as server, Client(server.address) as client:
        _, state = watch(client, range(40))
    whole = tmp_path / "whole"
    publish_tiny(whole, version=2, window_seconds=PANES * SLIDE)
    with running_server(repository=whole) as server, Client(server.address) as client:
        verdicts, _ = watch(client, range(40, 45), state)
        expected, _ = watch(client, range(20, 45), namespace="anew")
    assert facts(verdicts) == facts(expected[-len(verdicts) :])


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_a_level_that_changed_is_moved_back_pane_by_pane_and_said_as_it_is(repository, offset):
    with running_server(repository=repository) as server, Client(server.address) as client:
        expected, _ = watch(client, range(20, 70), namespace="before")
        running = Watch(client)
        running.score(range(20))
        since, factor = running.score([20])[0].observe_time, np.array([2.0, 4.0])
        correction = Correction(1, since, np.array([PANES * offset, 0.0]), factor)
        running.scorer._corrections._corrections |= {"desk": correction}
        running.scorer._begin_anew("desk", "desk")
        for row in range(21, 50):  # until nothing of the former level is held
            running.scorer.score(moved_batch(row, offset, factor))
        verdicts = [v for row in range(50, 70) for v in running.scorer.score(moved_batch(row, offset, factor))]
        recent = running.scorer.recent_values("desk", FEATURES[0], verdicts[-2].observe_time)
        running.stop()
    assert [v.p_value for v in verdicts] == pytest.approx([v.p_value for v in expected[-len(verdicts) :]], rel=1e-9)
    assert verdicts[-2].features[0].observed == 2 * WINDOWS[69, 0, 0] + PANES * offset == recent[-1]


def moved_batch(row, offset, factor):
    """Windows of a desk at another level, by a factor and an offset of each pane."""
    rows, windows = PANE_ROWS[row].copy(), WINDOWS[row].copy()
    rows[0], windows[0] = rows[0] * factor + [offset, 0], windows[0] * factor + [PANES * offset, 0]
    return WindowBatch(start_ns=at(row), series=NAMES, values=windows, rows=rows)


def test_a_watch_ends_when_no_version_is_left_that_takes_its_rows(tmp_path):
    publish_tiny(tmp_path, window_seconds=PANES * SLIDE)
    with running_server(repository=tmp_path) as server, Client(server.address) as client:
        running = Watch(client)
        running.score(range(20))
        publish_panes(tmp_path, version=2)
        server.rescan()
        shutil.rmtree(tmp_path / "tiny" / "1")
        server.rescan()
        with pytest.raises(ModsError) as failure:
            running.score(range(20, 40))
        assert failure.value.reason in {Reason.MODEL_RETIRED, Reason.PANES_MISMATCH}
        verdicts, _ = watch(client, range(40, 60), running.scorer.state())
    assert {v.model.version for v in verdicts} == {2}
