"""What a piece of work passes at run time stays short: counted in calls and changes of package, not in time."""

import pytest

from tests.support.structure import hot_paths
from tests.support.structure.tracing import Tracer

MAX_PACKAGE_CHANGES = 130  # of a row; in flat packages it was 257 changes of module
MAX_OF_GAP = 1.3  # times the calls of an ordinary row
MAX_OF_EXPLAINED = 1.25  # apart from its words
MAX_OF_WORDS = 12


@pytest.fixture(scope="module")
def traces():
    tracer = Tracer()
    try:
        return hot_paths.trace_all(tracer)
    finally:
        tracer.close()


def test_a_row_of_a_stream_changes_packages_seldom(traces):
    assert 0 < traces["StreamDetect row"].package_changes <= MAX_PACKAGE_CHANGES


def test_a_row_after_a_gap_takes_little_more_than_an_ordinary_one(traces):
    ordinary = traces["StreamDetect row"].calls
    assert ordinary < traces["StreamDetect row after a gap of one row"].calls <= MAX_OF_GAP * ordinary


def test_an_explained_row_is_scored_once(traces):
    ordinary, explained = traces["StreamDetect row"].calls, traces["StreamDetect row, explained"]
    words = explained.called.count("mods_grpc.alarm_rules.reason")
    assert 0 < words <= MAX_OF_WORDS
    assert ordinary < explained.calls - words <= MAX_OF_EXPLAINED * ordinary


def test_a_log_record_and_a_table_row_are_traced(traces):
    assert traces["Zeek record of a followed log"].calls > 5
    assert traces["table row"].calls > 2
