"""The queue of files: the file that is furthest behind is read next, and is opened only then."""

from pathlib import Path

from mods_grpc.ids.bulk.blocks import Block
from mods_grpc.ids.bulk.file_queue import FileQueue, QueuedFile
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.sources.log_files import LogFile

PARSER = LineParser("conn.log")


def queued(name, first, blocks, opened=None):
    def read():
        if opened is not None:
            opened.append(name)
        for number in range(blocks):
            yield PARSER, Block(f"{name} {number}".encode(), special=False)

    return QueuedFile(LogFile(path=Path(name), log=name), read(), first)


def test_the_file_that_is_furthest_behind_is_read_next_and_opened_only_then():
    opened = []
    queue = FileQueue([queued("late", 300, 1, opened), queued("early", 100, 2, opened), queued("empty", 0, 0, opened)])
    read = []
    while (block := queue.next_block()) is not None:
        file, parser, text = block
        assert parser is PARSER
        read.append((text.text, list(opened), queue.reached_ns))
        file.reach(file.reached_ns + 250)
    assert read == [
        (b"early 0", ["empty", "early"], 100),
        (b"late 0", ["empty", "early", "late"], 300),
        (b"early 1", ["empty", "early", "late"], 350),
    ]
    assert queue.reached_ns is None


def test_times_move_a_file_only_forward_and_not_before_there_are_three():
    file = queued("conn", 100, 1)
    file.note([10**18])
    file.note([500])
    assert file.reached_ns == 100
    file.note([400])
    assert file.reached_ns == 500
    file.note([200, 201, 202])
    assert file.reached_ns == 500
