"""The loop of a watch: a missing source is waited for, a sink that gives up ends the watch."""

import logging
from threading import Event

import pytest

from mods_grpc.ids.sources.reader import SourceUnreachableError
from mods_grpc.ids.watch import loop
from mods_grpc.ids.watch.loop import run_loop


class Feed:
    """A source that raises an error at some polls and yields one batch at the others."""

    def __init__(self, stop, missing):
        self.records = self.polls = 0
        self._stop, self._missing = stop, missing

    def poll(self):
        self.polls += 1
        if self.polls == len(self._missing):
            self._stop.set()
        if error := self._missing[self.polls - 1]:
            raise error
        yield ["batch"]


class Pipeline:
    """Counts processed batches; `fail` raises in place of processing them."""

    def __init__(self, fail=None):
        self.pending = self.processed = 0
        self._fail = fail

    @property
    def has_work(self):
        return self.pending > 0

    def feed(self, batches):
        self.pending += len(batches)

    def process(self):
        if self._fail:
            raise self._fail
        self.processed, self.pending = self.processed + self.pending, 0


class Writer:
    saves = 0

    def save(self):
        self.saves += 1


@pytest.mark.parametrize(
    "gone", [FileNotFoundError(2, "no such file", "conn.log"), SourceUnreachableError(13, "permission denied", "conn.log")]
)
def test_a_source_that_is_missing_or_out_of_reach_is_reported_once_and_waited_for(caplog, gone):
    stop = Event()
    feed, pipeline = Feed(stop, [None, gone, gone, None, gone]), Pipeline()
    with caplog.at_level(logging.WARNING):
        run_loop(feed, pipeline, Writer(), stop, poll_seconds=0)
    assert [(record.message, record.path) for record in caplog.records] == [("source_missing", "conn.log")] * 2
    assert (feed.polls, pipeline.processed) == (5, 2)


def test_a_sink_that_gives_up_ends_the_watch_and_is_not_taken_for_a_missing_source(monkeypatch):
    monkeypatch.setattr(loop, "MAX_PENDING", 1)  # processes while it polls
    stop, writer = Event(), Writer()
    with pytest.raises(FileNotFoundError, match="alerts"):
        run_loop(Feed(stop, [None, None]), Pipeline(FileNotFoundError(2, "no such file", "alerts")), writer, stop, poll_seconds=0)
    assert writer.saves == 1


def test_the_state_is_saved_now_and_then_while_no_record_comes(monkeypatch):
    monkeypatch.setattr(loop, "SAVE_IDLE_SECONDS", -1.0)
    stop, writer = Event(), Writer()
    gone = FileNotFoundError(2, "no such file", "conn.log")
    run_loop(Feed(stop, [gone, gone, gone]), Pipeline(), writer, stop, poll_seconds=0)
    assert writer.saves == 3 + 1  # the last when it ends
