"""Series whose model is not served wait for a bounded time and in a bounded number."""

import logging
from dataclasses import replace

import pytest

from mods_grpc.detection import SeriesTable
from mods_grpc.server.models import unserved as unserved_module
from mods_grpc.server.models.unserved import ModelSeries, UnservedSeries
from mods_grpc.server.series import slots as slots_module
from mods_grpc.server.series.slots import SeriesSlots


@pytest.fixture
def clock(monkeypatch):
    """Seconds on the clock of the slots, in a list to change them."""
    seconds = [0.0]
    monkeypatch.setattr(slots_module.time, "monotonic", lambda: seconds[0])
    return seconds


def series_of(name, count, **more):
    series = SeriesSlots(SeriesTable(1, 1), max_series=100, max_series_per_sensor=100, idle_seconds=60.0)
    for number in range(count):
        series.add("zeek", str(number))
    return ModelSeries(**{"name": name, "version": 1, "digest": "d", "grid": (), "series": series} | more)


def dropped(caplog):
    return [(record.model, record.series, record.reason) for record in caplog.records if record.message == "state_dropped"]


def test_series_that_were_not_used_for_too_long_are_dropped_and_counted(clock, caplog):
    unserved = UnservedSeries(10)
    unserved.add(series_of("old", 2))
    clock[0] = 50.0
    unserved.add(series_of("new", 3))
    with caplog.at_level(logging.WARNING):
        clock[0] = 61.0
        unserved.expire(())
    assert unserved.count_series() == {"new": 3}
    assert unserved.count_evictions() == {"idle": 2}
    assert dropped(caplog) == [("old", 0, "no version served the model for --state-idle-seconds")]


def test_models_within_the_limit_lose_nothing_however_many_are_not_served(clock, caplog):
    unserved, names = UnservedSeries(5), ("first", "second", "third")
    for name in names:
        unserved.add(series_of(name, 5))
    with caplog.at_level(logging.WARNING):
        unserved.expire(())
    assert unserved.count_series() == dict.fromkeys(names, 5)
    assert dropped(caplog) == []


def test_above_the_limit_a_model_loses_the_series_that_were_used_least_recently(clock, caplog):
    unserved = UnservedSeries(5)
    for seconds, grid in enumerate("abc"):
        clock[0] = float(seconds)
        unserved.add(series_of("tiny", 2, grid=grid))
    unserved.add(series_of("other", 5))
    with caplog.at_level(logging.WARNING):
        unserved.expire(())
    assert [(waiting.name, waiting.grid) for waiting in unserved] == [("tiny", "b"), ("tiny", "c"), ("other", ())]
    assert unserved.count_evictions() == {"capacity": 2}
    assert dropped(caplog) == [("tiny", 2, "more than 5 series wait, --max-series times --versions-kept")]


def test_above_the_number_of_models_that_wait_the_one_that_was_used_least_recently_loses_its_series(clock, caplog, monkeypatch):
    monkeypatch.setattr(unserved_module, "MAX_WAITING_MODELS", 2)
    unserved = UnservedSeries(5)
    for seconds, name in enumerate(("first", "second", "third")):
        clock[0] = float(seconds)
        unserved.add(series_of(name, 2))
    with caplog.at_level(logging.WARNING):
        unserved.expire(())
    assert unserved.count_series() == {"second": 2, "third": 2}
    assert dropped(caplog) == [("first", 2, "more than 2 models are not served")]


def test_models_that_are_about_to_be_loaded_do_not_count_for_the_limits(clock, monkeypatch):
    monkeypatch.setattr(unserved_module, "MAX_WAITING_MODELS", 1)
    unserved = UnservedSeries(1)
    for name in ("loading", "other", "gone"):
        unserved.add(series_of(name, 2 if name == "loading" else 1))
        clock[0] += 1.0
    unserved.expire({"loading", "other"})
    assert unserved.count_series() == {"loading": 2, "other": 1, "gone": 1}
    unserved.expire({"loading"})
    assert unserved.count_series() == {"loading": 2, "gone": 1}


def test_what_holds_no_series_does_not_wait():
    unserved = UnservedSeries(1)
    unserved.add(series_of("tiny", 0))
    assert list(unserved) == []


def test_series_of_another_grid_or_of_pinned_streams_wait_beside_the_others():
    unserved, first = UnservedSeries(9), series_of("tiny", 1)
    for waiting in (first, replace(first, grid=(1,)), replace(first, pinned=True), replace(first, pinned=True, digest="e")):
        unserved.add(waiting)
    assert unserved.count_series() == {"tiny": 4}
