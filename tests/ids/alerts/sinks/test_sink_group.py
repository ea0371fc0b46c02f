"""A group of destinations: one that can't be written holds up no other, and gets its alerts when it can."""

import json
import logging
import os
from pathlib import Path

import pytest

from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.sinks.destination import open_sinks
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.alerts.sinks.group import SinkGroup
from mods_grpc.ids.alerts.sinks.sink import StreamSink
from tests.support.alerts.sample_alerts import ALERT, CLEARED, END, HOST, NOTICE, UPDATE


def block(folder):
    """Have a file where a folder is expected, so that nothing can be written below it."""
    folder.write_text("")


def clear(folder):
    folder.unlink()


@pytest.fixture
def paths(tmp_path):
    return [tmp_path / "disk" / "blocked.jsonl", tmp_path / "free.jsonl"]


def make_group(paths, **options):
    return SinkGroup([(f"jsonl:{path}", FileSink(path, FORMATS["jsonl"])) for path in paths], **options)


def ids(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_a_destination_that_fails_holds_up_no_other_and_is_written_in_order_later(paths, caplog):
    blocked, free = paths
    block(blocked.parent)
    group = make_group(paths)
    with caplog.at_level(logging.INFO):
        for alert in (ALERT, UPDATE, NOTICE):
            group.write(alert)
        assert ids(free) == [ALERT.id, UPDATE.id, NOTICE.id]
        assert group.count_undelivered() == {f"jsonl:{blocked}": 3, f"jsonl:{free}": 0}
        assert "File exists" in group.list_errors()[f"jsonl:{blocked}"]
        clear(blocked.parent)
        group.retry()
        group.write(END)
    assert ids(blocked) == ids(free) == [ALERT.id, UPDATE.id, NOTICE.id, END.id]
    assert (group.list_errors(), group.count_unwritten()) == ({}, {})
    assert [record.message for record in caplog.records] == ["alerts_unwritable", "alerts_written"]


def test_what_waits_is_in_the_mark_and_is_written_once_after_a_restart(paths):
    blocked, free = paths
    block(blocked.parent)
    group = make_group(paths)
    group.write(ALERT)
    mark = json.loads(json.dumps(group.mark()))
    clear(blocked.parent)
    group.write(UPDATE)  # after the mark, and killed then
    for _ in range(2):
        restarted = make_group(paths)
        restarted.recover(mark)
        for alert in (UPDATE, END):
            restarted.write(alert)
        assert ids(blocked) == ids(free) == [ALERT.id, UPDATE.id, END.id]


def test_without_a_checkpoint_a_file_gets_no_alert_again_and_what_else_is_in_it_stays(paths):
    paths[1].write_text("not of ours, and without an end")
    make_group(paths[1:]).recover_without_marks()
    assert paths[1].read_text() == "not of ours, and without an end"
    paths[1].unlink()
    make_group(paths[1:]).write(ALERT)
    group = make_group(paths[1:])
    group.recover_without_marks()
    for alert in (ALERT, UPDATE):
        group.write(alert)
    assert ids(paths[1]) == [ALERT.id, UPDATE.id]


def test_a_mark_of_one_destination_without_anything_that_waits_is_its_own(paths):
    group = make_group(paths[1:])
    group.write(ALERT)
    assert group.mark() == {f"jsonl:{paths[1]}": {"inode": paths[1].stat().st_ino, "size": paths[1].stat().st_size}}


def test_the_oldest_beyond_the_limit_are_dropped_while_another_destination_has_them(paths, caplog):
    block(paths[0].parent)
    group = make_group(paths, max_waiting=2)
    for alert in (ALERT, UPDATE, NOTICE, CLEARED):
        group.write(alert)
    assert group.count_unwritten() == {f"jsonl:{paths[0]}": 4}
    assert [record.id for record in caplog.records if record.message == "alert_dropped"] == [ALERT.id, UPDATE.id]
    clear(paths[0].parent)
    group.retry()
    assert ids(paths[0]) == [NOTICE.id, CLEARED.id]
    assert group.count_unwritten() == {f"jsonl:{paths[0]}": 2}


def test_where_nothing_can_be_written_and_no_more_may_wait_an_error_ends_it(paths):
    block(paths[0].parent)
    group = make_group(paths[:1], max_waiting=2)
    for alert in (ALERT, UPDATE):
        group.write(alert)
    with pytest.raises(FileExistsError):
        group.write(END)


def test_a_run_without_a_state_ends_when_nothing_can_be_written(tmp_path):
    sinks = open_sinks([f"jsonl:{tmp_path / 'disk' / name}" for name in "ab"], None)
    (tmp_path / "disk").rmdir()
    block(tmp_path / "disk")
    with pytest.raises(FileExistsError):
        sinks.write(ALERT)


def test_a_device_without_space_is_named_with_its_error(tmp_path):
    group = SinkGroup([("eve:/dev/full", FileSink(Path("/dev/full"), FORMATS["eve"]))])
    group.write(ALERT)
    assert group.list_errors() == {"eve:/dev/full": "No space left on device"}


def test_a_stream_that_nobody_reads_any_more_takes_nothing_and_ends_only_a_group_of_its_own(paths):
    read_end, write_end = os.pipe()
    os.close(read_end)
    stream = os.fdopen(write_end, "w")
    group = SinkGroup([("stdout", StreamSink(FORMATS["jsonl"], stream)), ("file", FileSink(paths[1], FORMATS["jsonl"]))])
    for alert in (ALERT, HOST):
        group.write(alert)
    assert ids(paths[1]) == [ALERT.id, HOST.id]
    assert group.count_unwritten() == {"stdout": 2}
    alone = SinkGroup([("stdout", StreamSink(FORMATS["jsonl"], stream))])
    with pytest.raises(BrokenPipeError):
        alone.write(ALERT)
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_spool_that_can_not_be_written_is_tried_again(tmp_path):
    sinks = open_sinks(["cef:udp://127.0.0.1:9"], tmp_path)
    (spool,) = (tmp_path / "spool").iterdir()
    spool.rmdir()
    block(spool)
    sinks.write(ALERT)
    assert "Not a directory" in sinks.list_errors()["cef:udp://127.0.0.1:9"]
    clear(spool)
    spool.mkdir()
    sinks.retry()
    assert sinks.list_errors() == {}
    sinks.close()
