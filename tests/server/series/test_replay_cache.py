"""The replay cache answers requests of the previous stream, and is bounded in bytes."""

from collections import deque

from mods_grpc.server.series import replay_cache
from mods_grpc.server.series.replay_cache import CachedReply, ReplayCache


def test_the_previous_stream_is_replayed_until_the_client_sends_something_new():
    cache = ReplayCache()
    cache.attach(deque([CachedReply(b"one", b"1"), CachedReply(b"two", b"2")]))
    assert cache.lookup(b"two") == b"2"
    assert cache.lookup(b"three") is None
    cache.end_replay()
    assert cache.lookup(b"two") is None
    assert list(cache.entries) == [(b"one", b"1"), (b"two", b"2")]


def test_replies_that_the_previous_stream_adds_later_are_replayed_too():
    previous, cache = deque([CachedReply(b"one", b"1")]), ReplayCache()
    cache.attach(previous)
    previous.append(CachedReply(b"two", b"2"))
    assert cache.lookup(b"two") == b"2"


def test_the_oldest_replies_are_dropped_above_the_limit_and_the_last_one_is_kept_whatever_its_size(monkeypatch):
    monkeypatch.setattr(replay_cache, "MAX_CACHED_BYTES", 10)
    cache = ReplayCache()
    for number in range(4):
        cache.store(b"%d..." % number, b".")
    assert [request for request, _ in cache.entries] == [b"2...", b"3..."]
    cache.store(bytes(100), b"")
    assert [len(request) for request, _ in cache.entries] == [100]
