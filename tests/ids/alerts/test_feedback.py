"""What analysts say of alerts: written by many at once, cut off, damaged, and read while it grows."""

import errno
import fcntl
import json
import multiprocessing
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mods_grpc.errors import DataError
from mods_grpc.ids.alerts import feedback as feedback_module
from mods_grpc.ids.alerts.alert import alert_to_json
from mods_grpc.ids.alerts.feedback import (
    FEEDBACK_FILE,
    MAX_NOTE_CHARACTERS,
    Feedback,
    FeedbackReader,
    FeedbackVerdict,
    feedback_on,
    read_feedback,
    record_feedback,
)
from mods_grpc.ids.alerts.feedback_summary import AlertDays, RaisedAlert, format_summary, summarise
from mods_grpc.ids.alerts.rule_alert import rule_alert_to_json
from tests.support.alerts.hostile_names import HOSTILE
from tests.support.alerts.sample_alerts import ALERT, END, RULE, UPDATE

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FALSE_ALARM, CONFIRMED, WITHDRAWN = FeedbackVerdict
WRITERS, EACH = 6, 25


def said(identifier, verdict=FALSE_ALARM, **fields):
    return Feedback(id=identifier, verdict=verdict, time=NOW, **fields)


def write_many(folder, writer, barrier):
    barrier.wait()
    for number in range(EACH):
        record_feedback(folder, said(f"{writer}-{number}", note="n" * (number * 40)))


def test_what_many_processes_write_at_once_is_all_there(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(WRITERS)
    processes = [context.Process(target=write_many, args=(tmp_path / "state", each, barrier)) for each in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    log = read_feedback(tmp_path / "state")
    assert log.damaged == 0
    assert [entry.id for entry in log.entries if entry.id.startswith("3-")] == [f"3-{number}" for number in range(EACH)]
    assert len(log.entries) == len(log.current) == WRITERS * EACH


def test_a_writer_waits_for_the_one_before(tmp_path):
    record_feedback(tmp_path, said("a"))
    content = (tmp_path / FEEDBACK_FILE).read_bytes()
    writer = threading.Thread(target=record_feedback, args=(tmp_path, said("b")))
    with (tmp_path / FEEDBACK_FILE).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        assert (tmp_path / FEEDBACK_FILE).read_bytes() == content
    writer.join(10)
    assert [entry.id for entry in read_feedback(tmp_path).entries] == ["a", "b"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet=HOSTILE) | st.text(), min_size=1, max_size=4))
def test_hostile_notes_are_read_as_they_were_written_one_a_line(tmp_path, notes):
    (tmp_path / FEEDBACK_FILE).unlink(missing_ok=True)
    for number, note in enumerate(notes):
        record_feedback(tmp_path, said(str(number), note=note, user=note, series=note))
    log = read_feedback(tmp_path)
    assert [(entry.note, entry.user, entry.series) for entry in log.entries] == [(note,) * 3 for note in notes]
    lines = (tmp_path / FEEDBACK_FILE).read_bytes().splitlines()
    assert len(lines) == len(notes)
    assert all(line.isascii() for line in lines)


def test_the_last_verdict_counts_and_a_withdrawn_one_is_gone(tmp_path):
    for identifier, verdict in (("a", FALSE_ALARM), ("b", FALSE_ALARM), ("a", CONFIRMED), ("b", WITHDRAWN), ("c", WITHDRAWN)):
        record_feedback(tmp_path, said(identifier, verdict))
    log = read_feedback(tmp_path)
    assert len(log.entries) == 5
    assert {identifier: entry.verdict for identifier, entry in log.current.items()} == {"a": CONFIRMED}


def test_a_file_that_is_not_there_says_nothing(tmp_path):
    assert read_feedback(tmp_path / "none").entries == ()


@pytest.mark.parametrize(
    "line",
    [
        b'{"time":"2026-03-02T12:00:00Z","id":"x","verdict":"false_al',
        b"[]",
        b"3",
        b"\xff\xfe",
        b"{}",
        b'{"time":"noon","id":"x","verdict":"confirmed"}',
        b'{"time":5,"id":"x","verdict":"confirmed"}',
        b'{"time":"2026-03-02T12:00:00Z","id":3,"verdict":"confirmed"}',
        b'{"time":"2026-03-02T12:00:00Z","id":"x","verdict":"maybe"}',
        b'{"time":"2026-03-02T12:00:00Z","id":"x","verdict":["confirmed"]}',
        b'{"time":"2026-03-02T12:00:00Z","id":"x","verdict":"confirmed","series":3}',
        b"[" * 60_000,
        b'{"time":"2026-03-02T12:00:00Z","id":"x","verdict":"confirmed","note":"' + b"x" * 70_000 + b'"}',
    ],
)
def test_a_damaged_line_is_skipped_and_counted_aloud(tmp_path, caplog, line):
    record_feedback(tmp_path, said("before"))
    with (tmp_path / FEEDBACK_FILE).open("ab") as file:
        file.write(line)  # without its end, as after a crash
    record_feedback(tmp_path, said("after"))
    log = read_feedback(tmp_path)
    assert ([entry.id for entry in log.entries], log.damaged) == (["before", "after"], 1)
    (record,) = [record for record in caplog.records if record.message == "feedback_damaged"]
    assert (record.file, record.lines) == (str(tmp_path / FEEDBACK_FILE), 1)


def test_other_keys_are_left_out_and_only_three_are_needed(tmp_path):
    (tmp_path / FEEDBACK_FILE).write_text('{"time":"2026-03-02T13:00:00+01:00","id":"x","verdict":"confirmed","colour":"red"}\n')
    assert read_feedback(tmp_path).entries == (said("x", CONFIRMED),)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    record_feedback(tmp_path, said("before"))
    content = (tmp_path / FEEDBACK_FILE).read_bytes()
    write = os.write

    def write_half(descriptor, data):
        if len(data) < 60:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(feedback_module.os, "write", write_half)
    with pytest.raises(OSError, match="No space left") as caught:
        record_feedback(tmp_path, said("lost"))
    assert caught.value.filename == str(tmp_path / FEEDBACK_FILE)
    assert (tmp_path / FEEDBACK_FILE).read_bytes() == content


def test_a_note_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected up to 2,000 characters"):
        record_feedback(tmp_path, said("a", note="x" * (MAX_NOTE_CHARACTERS + 1)))
    assert not (tmp_path / FEEDBACK_FILE).exists()


def test_feedback_is_on_an_alert_and_its_episode():
    update = feedback_on(json.loads(json.dumps(alert_to_json(UPDATE))), CONFIRMED, time=NOW, user="eve")
    assert (update.id, update.episode, update.series, update.rule) == (UPDATE.id, ALERT.id, "site", None)
    assert update.alert_time == UPDATE.window_end
    rule = feedback_on(rule_alert_to_json(RULE), FALSE_ALARM, time=NOW)
    assert (rule.episode, rule.series, rule.rule) == (RULE.id, "10.1.2.3", "host-scan")
    for wrong in ({"id": "x"}, {"id": "x", "series": "s", "window": None}, {"id": "x", "series": "s", "window": {"end": 3}}):
        with pytest.raises(DataError, match="not an alert"):
            feedback_on(wrong, CONFIRMED, time=NOW)


def test_a_reader_returns_what_is_new_and_waits_for_the_end_of_a_line(tmp_path):
    reader = FeedbackReader(folder=tmp_path)
    assert reader.poll() == []
    record_feedback(tmp_path, said("a"))
    assert [entry.id for entry in reader.poll()] == ["a"]
    assert reader.poll() == []
    path = tmp_path / FEEDBACK_FILE
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole[:40])
        file.flush()
        assert reader.poll() == []
        file.write(whole[40:])
    assert reader.poll() == []  # the same again changes nothing
    record_feedback(tmp_path, said("a", WITHDRAWN))
    assert [entry.verdict for entry in reader.poll()] == [WITHDRAWN]
    assert (reader.current, reader.damaged) == ({}, 0)


def test_a_reader_that_was_restored_returns_only_what_was_said_since(tmp_path):
    record_feedback(tmp_path, said("a", CONFIRMED, series="site"))
    reader = FeedbackReader(folder=tmp_path)
    assert [entry.id for entry in reader.newly_confirmed(reader.poll())] == ["a"]
    saved = json.loads(json.dumps(reader.state()))
    record_feedback(tmp_path, said("b", CONFIRMED, series="lab"))
    restored = FeedbackReader(folder=tmp_path)
    restored.restore(saved)
    assert list(restored.current) == ["a"]
    assert [entry.id for entry in restored.newly_confirmed(restored.poll())] == ["b"]
    record_feedback(tmp_path, said("a", WITHDRAWN))
    record_feedback(tmp_path, said("a", CONFIRMED, series="site"))
    assert restored.newly_confirmed(restored.poll()) == []  # its step was undone already


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    for number in range(3):
        record_feedback(tmp_path, said(f"old{number}"))
    reader = FeedbackReader(folder=tmp_path)
    reader.poll()
    saved = reader.state()
    (tmp_path / FEEDBACK_FILE).unlink()
    assert reader.poll() == []
    record_feedback(tmp_path, said("new"))
    assert [entry.id for entry in reader.poll()] == ["new"]
    restored = FeedbackReader(folder=tmp_path)
    restored.restore(saved)
    assert [entry.id for entry in restored.poll()] == ["new"]


def test_a_file_that_cannot_be_read_is_logged_once(tmp_path, caplog):
    (tmp_path / FEEDBACK_FILE).mkdir()
    reader = FeedbackReader(folder=tmp_path)
    assert reader.poll() == reader.poll() == []
    assert [record.message for record in caplog.records] == ["feedback_unreadable"]


def test_one_of_many_alerts_of_an_episode_that_was_confirmed_is_one_step():
    reader = FeedbackReader(folder=None)
    entries = [said(each, CONFIRMED, first_id="a") for each in ("a", "b")] + [said("r", CONFIRMED, rule="host-scan"), said("c")]
    assert [entry.id for entry in reader.newly_confirmed(entries)] == ["a"]


def raised(number, when, first=None):
    return RaisedAlert(id=str(number), first_id=str(first or number), time=when)


def test_the_rate_is_of_episodes_in_the_last_days_and_stands_beside_the_budget():
    alerts = [raised(number, NOW - number * DAY) for number in range(1, 41)] + [raised(99, NOW - DAY, first=1)]
    feedback = [said("1"), said("99", CONFIRMED), said("2"), said("3", CONFIRMED), said("40"), said("5", rule="host-scan")]
    summary = summarise(alerts, feedback, 4.0, now=NOW)
    assert (summary.days, summary.alerts, summary.false_alarms, summary.confirmed, summary.unmarked) == (30, 30, 1, 2, 27)
    assert summary.false_alarms_per_day == pytest.approx(1 / 30)
    assert summary.upper_per_day == pytest.approx(28 / 30)
    assert format_summary(summary) == (
        "30 alerts in 30 days: 1 false alarms, 2 confirmed, 27 not marked; "
        "false alarms per day: 0.0333 marked, at most 0.933; budget 4"
    )


def test_a_rate_of_less_than_a_day_is_taken_over_a_day_and_nothing_has_a_rate_of_0():
    assert summarise([raised(1, NOW - DAY / 24)], [said("1")], None, now=NOW).false_alarms_per_day == 1
    empty = summarise([], [], None, now=NOW)
    assert (empty.days, empty.false_alarms_per_day, empty.upper_per_day) == (1, 0, 0)
    assert summarise([raised(1, NOW)], [], None, now=NOW, begin=NOW - 10 * DAY).upper_per_day == pytest.approx(0.1)


def test_the_days_of_a_watch_give_the_same_as_all_its_alerts_and_survive_a_restart():
    days, alerts = AlertDays(), []
    for number in range(200):
        when = NOW - (199 - number) * DAY
        days.count(when)
        alerts.append(raised(number, when))
    feedback = [
        said("199", alert_time=NOW),
        said("190", CONFIRMED, alert_time=NOW - 9 * DAY),
        said("7", alert_time=NOW - 192 * DAY),
    ]
    restored = AlertDays()
    restored.restore(json.loads(json.dumps(days.state())))
    assert restored.summarise(feedback, 1.0) == summarise(alerts, feedback, 1.0, now=NOW, begin=NOW - 200 * DAY)
    assert len(restored.state()["days"]) <= 61


def test_alerts_are_taken_from_lines_of_anomalies_alone():
    lines = [alert_to_json(each) for each in (ALERT, UPDATE, END)] + [rule_alert_to_json(RULE), {"kind": "notice"}, {"id": "x"}]
    facts = [RaisedAlert.of(line) for line in lines]
    assert [fact and fact.first_id for fact in facts] == [ALERT.id, ALERT.id, None, None, None, None]
    assert facts[0] is not None
    assert facts[0] == replace(facts[0], time=ALERT.window_end)
