"""Streams that pinned a model version go on with it, and change nothing for the others."""

import asyncio
import shutil
import weakref

import pytest

from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import verdict_pb2
from tests.server.models.test_reload import longer_window, publish_other, score_rows
from tests.support.models.tiny import ROWS, publish_tiny
from tests.support.rpc.client import Stream
from tests.support.running_server import running_server

FRESH, RESUMED = pb.STATE_ORIGIN_FRESH, pb.STATE_ORIGIN_RESUMED
SCORED = verdict_pb2.VERDICT_STATUS_SCORED
HELD_ROWS = ROWS + 4


@pytest.fixture
def server(tmp_path):
    publish_tiny(tmp_path / "repository")
    with running_server(repository=tmp_path / "repository") as running:
        yield running


@pytest.fixture
def repository(tmp_path):
    return tmp_path / "repository"


def pinned_stream(inference, sensor, version=1):
    return Stream(inference, sensor=sensor, model=pb.ModelReference(name="tiny", version=version))


def move_away_and_back(server, repository, tmp_path):
    for source, target in ((repository / "tiny", tmp_path / "away"), (tmp_path / "away", repository / "tiny")):
        source.rename(target)
        server.rescan()


def origin(inference, sensor):
    stream = Stream(inference, sensor=sensor)
    stream.cut()
    return stream.opened.state


def held_series(server):
    """Return the sensors of the series of each version, as they would be saved."""

    async def collect():
        return [(model.version, model.pinned, sorted(model.series.sensors())) for model in server.app.repository.model_series()]

    return asyncio.run_coroutine_threadsafe(collect(), server._loop).result(10)


def test_other_sensors_lack_nothing_when_a_model_was_away_whose_version_a_stream_has_pinned(
    server, inference, repository, tmp_path
):
    pinned, other = pinned_stream(inference, "pinned"), Stream(inference, sensor="other")
    score_rows(pinned, HELD_ROWS)
    score_rows(other, HELD_ROWS)
    move_away_and_back(server, repository, tmp_path)
    assert pinned.row(HELD_ROWS).verdict.status == SCORED
    assert origin(inference, "pinned") == FRESH
    assert origin(inference, "other") == RESUMED
    assert other.row(HELD_ROWS).verdict.status == SCORED
    pinned.end()
    other.end()


def test_an_open_stream_clears_the_marks_that_a_pinned_stream_of_its_sensor_left(server, inference, repository, tmp_path):
    pinned, other = pinned_stream(inference, "zeek"), Stream(inference, sensor="zeek")
    score_rows(other, HELD_ROWS)
    move_away_and_back(server, repository, tmp_path)
    assert origin(inference, "zeek") == FRESH
    assert other.row(HELD_ROWS).verdict.status == SCORED
    assert origin(inference, "zeek") == RESUMED
    pinned.end()
    other.end()


def test_a_replaced_version_keeps_the_series_of_pinned_streams_only(server, inference, repository):
    pinned, other = pinned_stream(inference, "pinned"), Stream(inference, sensor="other")
    score_rows(pinned, HELD_ROWS)
    score_rows(other, HELD_ROWS)
    publish_tiny(repository, version=2)
    server.rescan()
    assert held_series(server) == [(2, False, ["other", "pinned"]), (1, True, ["pinned"])]
    pinned.end()
    again = pinned_stream(inference, "pinned")
    assert (again.opened.state, again.opened.series_held) == (RESUMED, 1)
    assert again.row(HELD_ROWS).verdict.status == SCORED
    again.end()
    other.end()


@pytest.mark.parametrize("changes", [{}, longer_window(ROWS + 3)], ids=["same window", "longer window"])
def test_a_pinned_stream_gets_the_same_verdicts_while_versions_come_and_go(server, inference, repository, changes):
    pinned, moving = pinned_stream(inference, "pinned"), Stream(inference, sensor="moving")
    alone = [verdict.p_value for verdict in score_rows(moving, 40)]
    p_values = [verdict.p_value for verdict in score_rows(pinned, 10)]
    publish_other(repository, 2, **changes)
    server.rescan()
    p_values += [verdict.p_value for verdict in score_rows(pinned, 20, 10)]
    shutil.rmtree(repository / "tiny" / "2")
    server.rescan()
    p_values += [verdict.p_value for verdict in score_rows(pinned, 30, 20)]
    publish_other(repository, 3, **changes)
    server.rescan()
    p_values += [verdict.p_value for verdict in score_rows(pinned, 40, 30)]
    assert p_values == alone
    assert moving.row(40).verdict.status == (verdict_pb2.VERDICT_STATUS_WARMING_UP if changes else SCORED)
    pinned.end()
    moving.end()


def test_a_pinned_version_is_released_when_its_last_stream_ends(server, inference, repository):
    pinned, model = pinned_stream(inference, "pinned"), weakref.ref(server.model())
    for version in (2, 3):
        publish_tiny(repository, version=version)
        server.rescan()
    assert pinned.row(0).verdict.status == verdict_pb2.VERDICT_STATUS_WARMING_UP
    assert model() is not None
    pinned.end()
    assert pinned.failure()[0].name == "OK"
    publish_tiny(repository, version=4)
    server.rescan()
    assert model() is None
