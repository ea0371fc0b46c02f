"""The watermark: no single record advances it, whatever the order, and no gap stops it."""

import dataclasses
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.features import Conn, Ssh
from mods_grpc.features.records import RECORD_TYPES
from mods_grpc.features.watermark import Watermark
from tests.support.ids.log_records import SECOND, START

HOUR = 3_600


def ssh(second):
    return Ssh(ts=START + second * SECOND, orig_h="192.0.2.1", resp_h="10.0.0.1")


def pass_all(records):
    watermark = Watermark()
    passed = [one for record in records for one in watermark.hold_or_pass(record)]
    return passed + watermark.flush(), watermark


def seconds(records):
    return [(record.ts - START) // SECOND for record in records]


def test_the_watermark_is_the_time_of_the_third_latest_record():
    passed, watermark = pass_all(map(ssh, [5, 9, 1, 7, 3]))
    assert watermark.value_ns == START + 5 * SECOND
    assert watermark.latest_ns == START + 9 * SECOND
    assert sorted(seconds(passed)) == [1, 3, 5, 7, 9]


def test_two_records_from_the_future_are_held_and_do_not_advance_the_watermark():
    passed, watermark = pass_all(map(ssh, [1, 80 * HOUR, 2, 3, 70 * HOUR, 4]))
    assert seconds(passed) == [1, 2, 3, 4]
    assert (watermark.pending, watermark.value_ns, watermark.latest_ns) == (2, START + 4 * SECOND, START + 4 * SECOND)


def test_after_a_gap_the_third_record_releases_the_first_two():
    passed, watermark = pass_all(map(ssh, [1, 2, 3, 9 * HOUR, 9 * HOUR + 1, 9 * HOUR + 2, 9 * HOUR + 3]))
    assert seconds(passed) == [1, 2, 3, 9 * HOUR, 9 * HOUR + 1, 9 * HOUR + 2, 9 * HOUR + 3]
    assert watermark.pending == 0


@pytest.mark.parametrize("times", [[], [3], [3, 90 * HOUR]])
def test_fewer_than_three_records_are_passed_on_at_the_end(times):
    assert seconds(pass_all(map(ssh, times))[0]) == times


@pytest.mark.parametrize(("last", "counted"), [(3 * HOUR, True), (3 * HOUR + 1, False)])
def test_at_the_end_a_record_within_an_hour_of_the_one_before_counts(last, counted):
    times = [0, HOUR, 2 * HOUR, last]
    passed, watermark = pass_all(map(ssh, times))
    assert seconds(passed) == (times if counted else times[:-1])
    assert watermark.pending == (not counted)


def test_a_connection_with_a_duration_too_long_does_not_advance_the_watermark():
    broken = Conn(ts=START, duration=10**9 * SECOND, orig_h="192.0.2.1", resp_h="10.0.0.1")
    passed, watermark = pass_all([ssh(1), broken, ssh(2), ssh(3), ssh(4)])
    assert broken not in passed
    assert watermark.value_ns == START + 3 * SECOND


@given(st.lists(st.integers(0, 40 * HOUR), max_size=12), st.randoms())
def test_the_records_passed_on_do_not_depend_on_their_order(times, draw):
    shuffled = times.copy()
    draw.shuffle(shuffled)
    assert sorted(seconds(pass_all(map(ssh, shuffled))[0])) == sorted(seconds(pass_all(map(ssh, times))[0]))


@given(st.lists(st.integers(0, 40 * HOUR), max_size=12), st.integers(0, 12))
def test_a_restored_watermark_passes_on_the_same_records(times, cut):
    whole, _ = pass_all(map(ssh, times))
    first, second = Watermark(), Watermark()
    passed = [one for time in times[:cut] for one in first.hold_or_pass(ssh(time))]
    second.restore(first.state())
    passed += [one for time in times[cut:] for one in second.hold_or_pass(ssh(time))]
    assert passed + second.flush() == whole


SAMPLES = {str: "x", int: START, bool: True, tuple[str, ...]: ("a.example", "b.example")}


@pytest.mark.parametrize("kind", RECORD_TYPES.values(), ids=RECORD_TYPES)
def test_a_held_record_is_the_same_after_a_restart_whatever_values_it_has(kind):
    fields = dataclasses.fields(kind)
    choices = {field.name: typing.get_args(field.type) or (field.type,) for field in fields}
    record = kind(**{name: SAMPLES[types[0] if types[0] in SAMPLES else types[1]] for name, types in choices.items()})
    several = kind(**{name: SAMPLES[max(set(types) & SAMPLES.keys(), key=str)] for name, types in choices.items()})
    watermark = Watermark()
    for held in (record, several):
        watermark.hold_or_pass(held)
    restored = Watermark()
    restored.restore(json.loads(json.dumps(watermark.state())))
    assert restored.flush() == [record, several]


def test_at_most_two_records_are_held():
    watermark = Watermark()
    for time in range(0, 10**8, 2 * HOUR):
        watermark.hold_or_pass(ssh(time))
        assert watermark.pending <= 2
