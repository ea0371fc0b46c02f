"""The replay caches answer requests of the sensor's other streams, and are bounded in bytes."""

from collections import deque

from mods_grpc.server.series import replay_cache
from mods_grpc.server.series.replay_cache import CachedReply, LastReplies, ReplayCache


def open_streams(last, names):
    caches = [ReplayCache() for _ in names]
    for cache in caches:
        cache.open(last)
    return caches


def test_the_previous_stream_is_replayed_until_the_client_sends_something_new():
    cache = ReplayCache()
    cache.attach(deque([CachedReply(b"one", b"1"), CachedReply(b"two", b"2")]))
    assert cache.lookup("a", b"two") == b"2"
    assert cache.lookup("a", b"three") is None
    cache.note_new()
    assert cache.lookup("a", b"two") is None
    assert list(cache.entries) == [(b"one", b"1"), (b"two", b"2")]


def test_replies_that_the_previous_stream_adds_later_are_replayed_too():
    previous, cache = deque([CachedReply(b"one", b"1")]), ReplayCache()
    cache.attach(previous)
    previous.append(CachedReply(b"two", b"2"))
    assert cache.lookup("a", b"two") == b"2"


def test_what_other_streams_answer_after_the_client_sent_something_new_is_replayed_once_while_they_are_open():
    lost, other, cache = open_streams(LastReplies(), "abc")
    lost.store("a", b"one", b"1")
    other.close()
    cache.attach(other.entries)
    assert cache.lookup("a", b"two") is None
    cache.note_new()
    assert cache.lookup("a", b"one") is None  # from before
    cache.store("a", b"two", b"2")
    lost.store("a", b"two", b"duplicate")
    lost.store("a", b"three", b"3")
    assert cache.is_replaying
    assert cache.lookup("a", b"three") == b"3"
    assert cache.lookup("a", b"three") is None
    lost.close()
    lost.close()
    assert cache.lookup("a", b"five") is None
    cache.note_new()
    assert not cache.is_replaying


def test_the_first_of_two_replies_to_the_same_request_is_replayed():
    lost, cache = open_streams(LastReplies(), "ab")
    lost.store("a", b"one", b"1")
    lost.store("a", b"one", b"duplicate")
    cache.attach(lost.entries)
    assert cache.lookup("a", b"one") == b"1"


def test_a_stream_does_not_get_its_own_replies_once_its_client_sent_something_new():
    lost, cache = open_streams(LastReplies(), "ab")
    cache.attach(lost.entries)
    assert cache.lookup("a", b"one") is None
    cache.note_new()
    cache.store("a", b"one", b"1")
    assert cache.lookup("a", b"one") is None


def test_streams_of_different_pinned_versions_do_not_get_each_others_later_replies():
    last = LastReplies()
    (lost,), cache = open_streams(last, "a"), ReplayCache()
    cache.open(last, 1)
    cache.attach(lost.entries)
    cache.note_new()
    lost.store("a", b"one", b"1")
    assert cache.lookup("a", b"one") is None


def test_without_series_of_the_sensor_only_later_replies_count():
    lost, cache = open_streams(LastReplies(), "ab")
    lost.store("a", b"one", b"1")
    cache.attach(lost.entries, has_series=False)
    assert cache.lookup("a", b"one") is None
    lost.store("a", b"two", b"2")
    assert cache.lookup("a", b"two") == b"2"


def test_a_stream_that_stays_open_beside_the_next_one_counts_for_some_seconds(monkeypatch):
    now = 100.0
    monkeypatch.setattr(replay_cache.time, "monotonic", lambda: now)
    lost, cache = open_streams(LastReplies(), "ab")
    cache.attach(lost.entries)
    cache.note_new()
    assert cache.is_replaying
    now += replay_cache.OVERLAP_SECONDS
    lost.store("a", b"one", b"1")
    assert cache.lookup("a", b"one") == b"1"
    assert not cache.is_replaying


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
    streams = open_streams(last, "abc")
    for name, cache in zip("abc", streams, strict=True):
        cache.store(name, name.encode(), b"1")
        cache.close()
    for name in "abc":
        (cache,) = open_streams(last, name)
        cache.attach(streams[-1].entries)
        assert cache.is_replaying
        assert cache.lookup(name, b"new") is None
        assert cache.lookup(name, name.encode()) == b"1"
        cache.note_new()
        assert not cache.is_replaying
        cache.close()


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
