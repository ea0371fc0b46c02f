"""The history of a watch: each alert once over kills and rotations, in files of bounded size."""

import io
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.sinks.destination import open_sinks
from mods_grpc.ids.alerts.sinks.group import SinkGroup
from mods_grpc.ids.alerts.sinks.history import HISTORY_NAME, HistorySink, find_history
from mods_grpc.ids.alerts.sinks.sink import StreamSink
from tests.support.alerts.sample_alerts import ALERT, END, NOTICE, RULE, RULE_END, UPDATE

ALERTS = [replace(ALERT, series=f"10.0.0.{number}", reason="x" * (number % 7)) for number in range(60)]
LINE_BYTES = max(len(FORMATS["jsonl"].format(alert)) + 1 for alert in ALERTS)


def read_ids(*paths):
    return [json.loads(line)["id"] for path in paths if path.exists() for line in path.read_text().splitlines()]


def test_alerts_notices_and_alerts_of_rules_are_in_the_state_beside_every_destination(tmp_path, capsys):
    sinks = open_sinks(["stdout", f"eve:{tmp_path / 'eve.json'}"], tmp_path / "state")
    for item in (ALERT, UPDATE, NOTICE, RULE):
        sinks.write(item)
    assert read_ids(tmp_path / "state" / "alerts.jsonl") == [ALERT.id, UPDATE.id, NOTICE.id, RULE.id]
    assert capsys.readouterr().out == (tmp_path / "state" / "alerts.jsonl").read_text()


def test_ends_that_were_not_asked_for_are_in_the_history_alone(tmp_path, capsys):
    sinks = open_sinks(["stdout"], tmp_path, ends=False)
    for item in (ALERT, END, RULE, RULE_END, NOTICE):
        sinks.write(item)
    assert read_ids(tmp_path / "alerts.jsonl") == [ALERT.id, END.id, RULE.id, RULE_END.id, NOTICE.id]
    printed = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert printed == [ALERT.id, RULE.id, NOTICE.id]


def test_without_a_state_there_is_no_history(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_sinks(["stdout"], None).write(ALERT)
    assert list(tmp_path.iterdir()) == []


def test_a_destination_can_not_be_the_file_of_the_history(tmp_path):
    for name in ("alerts.jsonl", "alerts.1.jsonl"):
        with pytest.raises(DataError, match="keeps its alerts in that file anyway"):
            open_sinks([f"jsonl:{tmp_path / name}"], tmp_path)


def test_marks_of_versions_without_a_history_still_load(tmp_path, capsys):
    sinks = open_sinks(["stdout", f"jsonl:{tmp_path / 'a'}"], tmp_path / "state")
    sinks.recover({"stdout": None, f"jsonl:{tmp_path / 'a'}": {"inode": 3, "size": 0}})
    sinks.write(ALERT)
    assert read_ids(tmp_path / "state" / "alerts.jsonl") == [ALERT.id]


def test_a_watch_that_lost_its_checkpoint_repeats_nothing(tmp_path):
    open_sinks(["stdout"], tmp_path).write(ALERT)
    again = open_sinks(["stdout"], tmp_path)
    again.recover_without_marks()
    again.write(ALERT)
    again.write(UPDATE)
    assert read_ids(tmp_path / "alerts.jsonl") == [ALERT.id, UPDATE.id]


def test_a_line_that_a_power_cut_left_incomplete_is_cut_off_whatever_the_mark(tmp_path):
    sinks = open_sinks(["stdout"], tmp_path)
    sinks.write(ALERT)
    with (tmp_path / "alerts.jsonl").open("a") as file:
        file.write(FORMATS["jsonl"].format(UPDATE)[:200_000])
        file.write("x" * 200_000)
    again = open_sinks(["stdout"], tmp_path)
    again.recover_without_marks()
    again.write(UPDATE)
    assert read_ids(tmp_path / "alerts.jsonl") == [ALERT.id, UPDATE.id]


def test_what_nobody_reads_any_more_ends_the_watch_although_the_history_could_be_written(tmp_path):
    class ClosedPipe(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    history = HistorySink(tmp_path)
    group = SinkGroup([("stdout", StreamSink(FORMATS["jsonl"], ClosedPipe()))], history=history)
    with pytest.raises(BrokenPipeError):
        group.write(ALERT)
    assert read_ids(tmp_path / "alerts.jsonl") == [ALERT.id]


def test_a_history_that_can_not_be_written_stops_no_destination_and_is_caught_up(tmp_path):
    (tmp_path / "alerts.jsonl").mkdir()
    stream = io.StringIO()
    group = SinkGroup([("stdout", StreamSink(FORMATS["jsonl"], stream))], history=HistorySink(tmp_path))
    group.write(ALERT)
    assert ALERT.id in stream.getvalue()
    assert group.count_unwritten() == {HISTORY_NAME: 1}
    (tmp_path / "alerts.jsonl").rmdir()
    group.retry()
    assert read_ids(tmp_path / "alerts.jsonl") == [ALERT.id]


def test_the_history_is_bounded_by_two_files(tmp_path):
    sink = HistorySink(tmp_path, max_bytes=4 * LINE_BYTES)
    for alert in ALERTS:
        sink.write(alert)
    older, live = find_history(tmp_path)
    assert max(path.stat().st_size for path in (older, live)) <= 4 * LINE_BYTES
    ids = read_ids(older, live)
    assert 4 < len(ids) <= 8
    assert ids == [alert.id for alert in ALERTS[-len(ids) :]]


class KilledError(Exception):
    pass


@settings(max_examples=40)  # each line is synced to disk
@given(
    kills=st.lists(
        st.tuples(st.integers(1, 12), st.integers(0, 6), st.sampled_from(["before", "rotated", "torn", "after"])), max_size=6
    ),
    lines=st.integers(7, 20),
)
def test_kills_and_rotations_lose_and_repeat_nothing(tmp_path_factory, kills, lines):
    """A watch marks the history now and then; after a kill it writes all alerts since the mark again, before the next mark."""
    folder = tmp_path_factory.mktemp("state")
    older, live = folder / "alerts.1.jsonl", folder / "alerts.jsonl"
    mark, marked_at, ever_written = None, 0, 0
    for run, since_mark, moment in [*kills, (len(ALERTS), 0, "before")]:
        sink = HistorySink(folder, max_bytes=lines * LINE_BYTES)
        sink.prepare()
        sink.recover(mark)
        start, end = marked_at, min(len(ALERTS), marked_at + run)
        for number in range(start, end + 1):
            if number >= max(ever_written, end - since_mark) and marked_at == start:
                mark, marked_at = sink.mark(), number
            if number < end:
                sink.write(ALERTS[number])
        ever_written = max(ever_written, end)
        if end == ever_written < len(ALERTS) and moment != "before":
            _kill(sink, folder, ALERTS[end], moment)
            ever_written += moment == "after"
        if moment != "torn":
            ids = read_ids(older, live)
            assert ids == [alert.id for alert in ALERTS[ever_written - len(ids) : ever_written]]
            assert len(ids) >= min(ever_written, lines)


def _kill(sink, folder, alert, moment):
    if moment == "after":
        sink.write(alert)
    elif moment == "torn":
        with (folder / "alerts.jsonl").open("a") as file:
            file.write(sink.format(alert)[:50])
    else:  # it died between a rotation and the line for which it made room
        sink._rotate_if_full(len(sink.format(alert)))


def test_the_end_of_an_episode_is_another_line(tmp_path):
    sink = HistorySink(tmp_path)
    for item in (ALERT, END, replace(END, phase=AlertPhase.UPDATE, number=9)):
        sink.write(item)
    assert len(read_ids(tmp_path / "alerts.jsonl")) == 3
