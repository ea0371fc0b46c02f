"""What a watch looks at: logs that can't be read, and values that are missing because a log is."""

import os
from pathlib import Path

import numpy as np

from mods_grpc.client import FeatureInfo
from mods_grpc.features import PROTOCOLS, Aggregator, AggregatorOptions, Http
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.watch.monitoring import collect_facts, find_logs, find_unreadable, protocols_of
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowColumns

SECOND = 10**9
START = 1_772_409_600 * SECOND


def make_loop(path):
    """Make a file that not even root can open."""
    path.symlink_to(path.name)


def test_live_logs_that_can_not_be_opened_are_listed_with_the_error(tmp_path):
    (tmp_path / "conn.log").touch()
    for name in ("http.log", "ftp.log", "http.2026-03-01-00-00-00-01-00-00.log.gz"):
        make_loop(tmp_path / name)
    (tmp_path / "logger-1").mkdir()
    (tmp_path / "2026-03-01").mkdir()
    make_loop(tmp_path / "logger-1" / "dns.log")
    make_loop(tmp_path / "2026-03-01" / "dns.log")
    unreadable = find_unreadable(tmp_path, PROTOCOLS)
    assert sorted(unreadable) == [tmp_path / "http.log", tmp_path / "logger-1" / "dns.log"]
    assert set(unreadable.values()) == {"Too many levels of symbolic links"}
    assert protocols_of(unreadable) == {"http", "dns"}


def test_a_pipe_or_folder_called_like_a_log_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "http.log")
    (tmp_path / "dns.log").mkdir()
    assert find_unreadable(tmp_path, PROTOCOLS) == {}


def test_a_file_of_all_protocols_that_can_not_be_opened_makes_all_missing(tmp_path):
    make_loop(tmp_path / "eve.json")
    unreadable = find_unreadable(tmp_path / "eve.json", PROTOCOLS)
    assert list(unreadable) == [tmp_path / "eve.json"]
    assert protocols_of(unreadable) == set(PROTOCOLS)


def test_a_file_or_folder_that_is_not_there_is_not_unreadable(tmp_path):
    assert find_unreadable(tmp_path / "eve.json", PROTOCOLS) == find_unreadable(tmp_path / "logs", PROTOCOLS) == {}


def test_logs_are_there_by_their_names_in_the_live_folder_and_the_archive(tmp_path):
    for name in (
        "current/conn.log",
        "2026-03-01/dns.00:00:00-01:00:00.log.gz",
        "2026-03-01/ftp.log",
        "current/logger-1/ssl.log",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "eve.json").touch()
    (tmp_path / "current" / "http.log").mkdir()
    os.mkfifo(tmp_path / "current" / "ssh.log")
    assert find_logs(tmp_path / "current", None, PROTOCOLS) == {"conn", "dns", "ssl"}
    assert find_logs(tmp_path / "2026-03-01", None, PROTOCOLS) == {"dns"}
    assert find_logs(tmp_path / "2026-03-01", tmp_path / "current", PROTOCOLS) == {"conn", "dns", "ssl"}
    assert find_logs(tmp_path / "eve.json", tmp_path, PROTOCOLS) == frozenset()
    assert find_logs(tmp_path / "nowhere", None, PROTOCOLS) == frozenset()


class Source:
    """Records that are there at each look."""

    def __init__(self, *looks):
        self.looks = list(looks)

    def poll(self):
        yield from self.looks.pop(0)


def feature(protocol):
    return FeatureInfo(
        name=f"{protocol}_in", unit="", protocol=protocol, column="in", kind="count", training_minimum=0.0, training_maximum=9.0
    )


def http(second):
    return Http(ts=START + second * SECOND, uid="C", orig_h="192.0.2.1", resp_h="10.0.0.1")


def make_feed(*looks, logs=()):
    columns = WindowColumns([feature("http"), feature("ssh")])
    aggregator = Aggregator(columns.definition, AggregatorOptions(window_seconds=60, slide_seconds=60, begin_ns=START))
    return WindowFeed(Source(*looks), aggregator, columns, lateness_seconds=0, logs=logs)


def values(feed):
    return [batch.values[0].tolist() for group in feed.poll() for batch in group]


def test_values_of_a_log_that_was_never_there_are_missing():
    np.testing.assert_equal(values(make_feed([http(1), *[http(61)] * 3])), [[1.0, np.nan]])
    assert values(make_feed([http(1), *[http(61)] * 3], logs={"ssh"})) == [[1.0, 0.0]]


def test_values_of_a_log_that_can_not_be_read_now_are_missing():
    feed = make_feed([http(1), *[http(61)] * 3], [*[http(121)] * 3], [*[http(181)] * 3], logs={"ssh"})
    assert values(feed) == [[1.0, 0.0]]
    facts = collect_facts(ReadCounters(), feed, {Path("/logs/ssh.log"): "Permission denied"}, {})
    assert facts.unreadable == {"/logs/ssh.log": "Permission denied"}
    np.testing.assert_equal(values(feed), [[3.0, np.nan]])
    collect_facts(ReadCounters(), feed, {}, {})
    assert values(feed) == [[3.0, 0.0]]


def test_a_log_that_was_there_is_there_after_a_restart():
    feed = make_feed([http(1)])
    assert values(feed) == []
    restarted = make_feed([*[http(61)] * 3], logs={"ssh"})
    restarted.restore(feed.state())
    assert restarted.logs == {"http", "ssh"}
