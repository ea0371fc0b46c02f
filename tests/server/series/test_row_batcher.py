"""Rows of several streams that arrive together are scored in one call, each as if it had arrived alone."""

import asyncio

import numpy as np
import pytest

from mods_grpc.detection import SeriesTable
from mods_grpc.errors import Reason
from mods_grpc.protobuf.arrays import timestamp_from_nanos
from mods_grpc.server.series import row_batcher
from mods_grpc.server.series.row_batcher import PendingRow, RowBatcher
from mods_grpc.server.series.slots import SeriesSlots
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ALL
from tests.support.models.tiny import LEVELS, ROWS
from tests.support.rpc.client import Stream, at, observation, read_details

STREAMS = 7


@pytest.fixture
def runs(server, monkeypatch):
    """How many windows each run of the model had."""
    sizes, session = [], type(server.model().session)
    forecast = session.forecast

    def noted(self, windows, times):
        sizes.append(len(windows))
        return forecast(self, windows, times)

    monkeypatch.setattr(session, "forecast", noted)
    return sizes


def opened(inference, name, count=STREAMS, **fields):
    return [Stream(inference, sensor=f"{name} {number}", **fields) for number in range(count)]


def together(streams, *messages):
    """Send every stream its message before any answer is read."""
    for stream, message in zip(streams, messages, strict=True):
        stream.begin(observation=message)
    return [stream.read().answer for stream in streams]


def cut(streams):
    for stream in streams:
        stream.cut()


def content(answer):
    """Return an answer without the number of the message that it answers."""
    return answer.verdict, list(answer.errors)


def test_rows_that_arrive_together_get_the_verdicts_they_would_get_alone(inference, runs):
    values = [np.random.default_rng(seed).permutation(LEVELS)[:40] for seed in range(STREAMS)]
    for number, row in ((2, 20), (5, 20), (5, 21), (3, 30)):
        values[number][row] *= 30  # alarms
    alone = []
    for own in values:
        stream = Stream(inference, sensor="alone", explain=EXPLAIN_ALL if len(alone) == 3 else 0)
        alone.append([content(stream.row(row, own[row], series=f"series {len(alone)}")) for row in range(len(own))])
        stream.cut()
    streams = [
        Stream(inference, sensor=f"together {number}", explain=EXPLAIN_ALL if number == 3 else 0) for number in range(STREAMS)
    ]
    runs.clear()
    batched = [[] for _ in streams]
    for row in range(40):
        messages = [observation(row, own[row], series=f"series {number}") for number, own in enumerate(values)]
        for mine, answer in zip(batched, together(streams, *messages), strict=True):
            mine.append(content(answer))
    cut(streams)
    assert batched == alone
    assert max(runs) > 1


def test_the_error_of_one_row_goes_to_its_stream_only_and_changes_nothing(inference):
    streams = opened(inference, "wrong")
    for row in range(8):
        together(streams, *[observation(row)] * STREAMS)
    answers = together(
        streams,
        observation(8),
        observation(7),  # again
        observation(2, LEVELS[3]),  # late
        observation(7, LEVELS[3]),  # contradicts
        observation(8, [-1.0, 2.0]),
        observation(8, observe_time=timestamp_from_nanos(at(8) + 10**9)),
        observation(8, series=""),
    )
    reasons = [[read_details(error.status)["ErrorInfo"].reason for error in answer.errors] for answer in answers]
    assert reasons == [
        [],
        [],
        [Reason.OBSERVATION_LATE],
        [Reason.DUPLICATE_CONFLICT],
        [Reason.VALUE_NEGATIVE],
        [Reason.INTERVAL_MISMATCH],
        [Reason.SERIES_ID_INVALID],
    ]
    answers = together(streams, observation(9), *[observation(8)] * (STREAMS - 1))
    cut(streams)
    assert not any(answer.errors for answer in answers)


def test_a_forecast_that_is_not_finite_fails_only_its_own_stream(inference):
    streams = opened(inference, "infinite")
    huge = np.full(2, 1.7e308)
    for row in range(ROWS):
        together(streams, observation(row, huge), *[observation(row)] * (STREAMS - 1))
    answers = together(streams, *[observation(ROWS)] * STREAMS)
    cut(streams)
    assert [answer.HasField("error") for answer in answers] == [True] + [False] * (STREAMS - 1)
    assert all(answer.verdict.HasField("p_value") for answer in answers[1:])


def row_batcher_of_one_series():
    return RowBatcher(SeriesSlots(SeriesTable(1, 1), max_series=1, max_series_per_sensor=1, idle_seconds=1), max_rows=64)


def pending_row(**changes):
    data = pb.StreamData(observation=observation(0))
    return PendingRow(**{"scorer": None, "message": data, "is_current": lambda: True, "finish": None} | changes)


@pytest.mark.parametrize("reason", ["another version serves", "the series are locked"])
def test_rows_whose_series_moved_or_are_locked_are_returned_unscored(reason):
    async def run():
        rows = row_batcher_of_one_series()
        if reason == "the series are locked":
            rows._series.lock.thread_lock.acquire()
        return await rows.score(pending_row(is_current=lambda: reason == "the series are locked"))

    assert asyncio.run(run()) is None


def test_the_row_of_a_broken_stream_is_not_applied():
    async def run():
        rows = row_batcher_of_one_series()
        waiting = asyncio.ensure_future(rows.score(pending_row()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not rows._waiting

    asyncio.run(run())


def test_a_stream_has_concurrent_streams_while_others_send(monkeypatch):
    monkeypatch.setattr(row_batcher, "CONCURRENCY_SECONDS", 60.0)
    rows, one, other = row_batcher_of_one_series(), object(), object()
    assert [rows.has_concurrent_streams(stream) for stream in (one, one, other, other, one)] == [False, False, True, False, True]
