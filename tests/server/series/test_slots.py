"""Series are looked up by sensor and name, bounded per sensor and in all, and evicted when idle or least recently used."""

from collections import deque

import numpy as np
import pytest

from mods_grpc.detection import SeriesTable
from mods_grpc.server.series import slots as module
from mods_grpc.server.series.replay_cache import CachedReply
from mods_grpc.server.series.slots import NO_SLOT, SeriesSlots


@pytest.fixture
def clock(monkeypatch):
    """Seconds on the clock of the slots, in a list to change them."""
    seconds = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    return seconds


def series_slots(**limits):
    return SeriesSlots(SeriesTable(1, 1), **{"max_series": 3, "max_series_per_sensor": 2, "idle_seconds": 60.0} | limits)


def test_a_series_is_found_by_sensor_and_name(clock):
    series = series_slots()
    slots = [series.add("a", "web"), series.add("a", "dns"), series.add("b", "web")]
    assert len(set(slots)) == len(series) == 3
    np.testing.assert_array_equal(series.find_slots("a", ["dns", "mail", "web"]), [slots[1], NO_SLOT, slots[0]])
    assert series.find_slot("b", "web") == slots[2]
    assert series.find_slot("c", "web") == NO_SLOT


def test_a_sensor_at_its_limit_gets_no_slot(clock):
    series = series_slots()
    series.add("a", "web")
    series.add("a", "dns")
    assert series.add("a", "mail") == NO_SLOT
    assert series.count_series("a") == 2


def test_the_least_recently_used_series_is_evicted_at_the_limit(clock):
    series = series_slots()
    for number, (sensor, name) in enumerate([("a", "web"), ("a", "dns"), ("b", "web")]):
        clock[0] = float(number)
        series.add(sensor, name)
    clock[0] = 3.0
    series.find_slot("a", "web")
    series.add("b", "dns")
    assert series.find_slot("a", "dns") == NO_SLOT
    assert series.find_slot("a", "web") != NO_SLOT
    assert series.evicted == {"capacity": 1}


def test_idle_series_are_evicted(clock):
    series = series_slots()
    series.add("a", "web")
    clock[0] = 61.0
    assert series.count_series("a") == 0
    assert series.evicted == {"idle": 1}


def test_the_cached_replies_of_a_sensor_go_with_its_last_series(clock):
    series = series_slots()
    for sensor in ("idle", "busy"):
        series.add(sensor, "web")
        series.swap_replies(sensor, deque([CachedReply(b"request", b"reply")]))
    clock[0] = 50.0
    series.find_slot("busy", "web")
    clock[0] = 61.0
    series.evict_idle()
    assert series.sensors() == ["busy"]


def test_a_group_of_sensors_ends_before_it_has_too_many_cached_replies(clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_GROUP_REPLIES", 3)
    series = series_slots()
    for sensor, count in (("a", 2), ("b", 1), ("c", 1), ("d", 9), ("e", 0)):
        series.swap_replies(sensor, deque([CachedReply(b"request", b"reply")] * count))
    assert list(series.sensor_groups(100)) == [["a", "b"], ["c"], ["d"], ["e"]]


def test_restored_replies_are_the_last_ones_of_their_series_until_there_is_a_newer_one(clock):
    series = series_slots()
    requests = [b"web 1", b"dns 1", b"web 2"]
    series.swap_replies("a", deque(CachedReply(request, b"restored") for request in requests))
    series.restore_last_replies(lambda request: request.decode().split()[0])
    last = series.last_replies("a")
    assert [request for request, _ in last.list_replies()] == [b"dns 1", b"web 2"]
    assert last.lookup("web", b"web 2") == b"restored"
    last.store("web", CachedReply(b"web 3", b"new"), 8)
    assert last.lookup("web", b"web 2") is None
    assert last.lookup("dns", b"dns 1") == b"restored"
    series.restore_last_replies(lambda request: "web")
    assert last.lookup("dns", b"dns 1") == b"restored"
