"""The replay caches answer requests of the sensor's other streams, and are bounded in bytes."""

from collections import deque

from mods_grpc.server.series import replay_cache
from mods_grpc.server.series.replay_cache import CachedReply, LastReplies, ReplayCache


def test_the_previous_stream_is_replayed_until_the_client_sends_something_new():
    cache = ReplayCache()
    cache.attach(deque([CachedReply(b"one", b"1"), CachedReply(b"two", b"2")]))
    assert cache.lookup("a", b"two") == b"2"
    assert cache.lookup("a", b"three") is None
    cache.end_replay()
    assert cache.lookup("a", b"two") is None
    assert list(cache.entries) == [(b"one", b"1"), (b"two", b"2")]


def test_replies_that_the_previous_stream_adds_later_are_replayed_too():
    previous, cache = deque([CachedReply(b"one", b"1")]), ReplayCache()
    cache.attach(previous)
    previous.append(CachedReply(b"two", b"2"))
    assert cache.lookup("a", b"two") == b"2"


def test_the_oldest_replies_are_dropped_above_the_limit_and_the_last_one_is_kept_whatever_its_size(monkeypatch):
    monkeypatch.setattr(replay_cache, "MAX_CACHED_BYTES", 10)
    cache = ReplayCache()
    for number in range(4):
        cache.store("a", b"%d..." % number, b".")
    assert [request for request, _ in cache.entries] == [b"2...", b"3..."]
    cache.store("a", bytes(100), b"")
    assert [len(request) for request, _ in cache.entries] == [100]


def test_each_of_several_streams_of_a_sensor_is_continued():
    last = LastReplies()
    streams = [ReplayCache() for _ in range(3)]
    for name, cache in zip("abc", streams, strict=True):
        cache.last = last
        cache.store(name, name.encode(), b"1")
    again = [ReplayCache() for _ in streams]
    for name, cache in zip("abc", again, strict=True):
        cache.last = last
        cache.attach(streams[-1].entries)
        assert cache.is_replaying
        assert cache.lookup(name, b"new") is None
        assert cache.lookup(name, name.encode()) == b"1"
        cache.end_replay()
        assert not cache.is_replaying


def test_of_the_last_replies_only_the_latest_of_each_series_stays_within_the_limit(monkeypatch):
    monkeypatch.setattr(replay_cache, "MAX_SENSOR_BYTES", 4)
    last = LastReplies()
    for series, request in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"4")):
        last.store(series, CachedReply(request, b"."), 2)
    assert last.list_replies() == [(b"3", b"."), (b"4", b".")]
    assert last.lookup("b", b"2") is None
    assert last.lookup("a", b"1") is None
    assert last.lookup("a", b"3") == b"."
    last.store("b", CachedReply(bytes(100), b"."), 101)
    assert len(last.list_replies()) == 1


def test_a_request_that_comes_twice_keeps_its_first_reply():
    last = LastReplies()
    last.store("a", CachedReply(b"1", b"scored"), 7)
    last.store("a", CachedReply(b"1", b"duplicate"), 10)
    assert last.lookup("a", b"1") == b"scored"
