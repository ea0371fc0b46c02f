"""Sensors whose series may lack rows open as FRESH until their clients have caught up."""

import asyncio

import pytest

from mods_grpc.v1 import inference_pb2 as pb
from tests.support.rpc.client import Stream, at, observation

FRESH, RESUMED = pb.STATE_ORIGIN_FRESH, pb.STATE_ORIGIN_RESUMED
LAST_ROW = 5


@pytest.fixture
def sensor(server, inference, request):
    """A sensor with two series that may lack rows."""
    name = request.node.name[:100]
    stream = Stream(inference, sensor=name)
    for row in range(LAST_ROW + 1):
        stream.row(row, series="busy")
        stream.row(row, series="quiet")
    stream.end()
    mark_stale(server, name)
    return name


def mark_stale(server, sensor):
    async def mark():
        server.model().series.mark_stale({sensor})

    asyncio.run_coroutine_threadsafe(mark(), server._loop).result(10)


def origin(inference, sensor):
    stream = Stream(inference, sensor=sensor)
    stream.cut()
    return stream.opened.state


def test_a_client_need_not_send_again_the_series_of_which_it_was_told_the_last_row(inference, sensor):
    stream = Stream(inference, sensor=sensor, series=["busy", "quiet", "new"])
    assert stream.opened.state == FRESH
    assert list(stream.opened.last_observe_time_unix_nano) == [at(LAST_ROW), at(LAST_ROW), 0]
    stream.send(observation=observation(LAST_ROW, series="busy"), warm_up=True)
    assert origin(inference, sensor) == FRESH
    stream.row(LAST_ROW + 1, series="busy")
    assert origin(inference, sensor) == RESUMED
    stream.end()


def test_series_that_a_client_neither_asked_about_nor_sent_again_stay_stale(inference, sensor):
    for asked in (["busy"], []):
        stream = Stream(inference, sensor=sensor, series=asked)
        stream.row(LAST_ROW + 1, series="busy")
        stream.end()
        assert origin(inference, sensor) == FRESH
    stream = Stream(inference, sensor=sensor, series=["quiet"])
    stream.row(LAST_ROW + 2, series="busy")
    stream.end()
    assert origin(inference, sensor) == RESUMED
