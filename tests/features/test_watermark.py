"""The clock of the logs: moved by no single record, whatever the order, and stopped by no gap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.features import Conn, Ssh
from mods_grpc.features.watermark import Watermark
from tests.support.ids.log_records import SECOND, START

HOUR = 3_600


def ssh(second):
    return Ssh(ts=START + second * SECOND, orig_h="192.0.2.1", resp_h="10.0.0.1")


def admitted(records):
    clock = Watermark()
    found = [one for record in records for one in clock.hold_or_pass(record)]
    return found + clock.flush(), clock


def seconds(records):
    return [(record.ts - START) // SECOND for record in records]


def test_it_stands_at_the_third_latest_record():
    found, clock = admitted(map(ssh, [5, 9, 1, 7, 3]))
    assert clock.value_ns == START + 5 * SECOND
    assert clock.latest_ns == START + 9 * SECOND
    assert sorted(seconds(found)) == [1, 3, 5, 7, 9]


def test_two_records_of_another_time_are_held_for_ever_and_move_nothing():
    found, clock = admitted(map(ssh, [1, 80 * HOUR, 2, 3, 70 * HOUR, 4]))
    assert seconds(found) == [1, 2, 3, 4]
    assert (clock.pending, clock.value_ns, clock.latest_ns) == (2, START + 4 * SECOND, START + 4 * SECOND)


def test_after_a_gap_the_third_record_brings_the_first_two():
    found, clock = admitted(map(ssh, [1, 2, 3, 9 * HOUR, 9 * HOUR + 1, 9 * HOUR + 2, 9 * HOUR + 3]))
    assert seconds(found) == [1, 2, 3, 9 * HOUR, 9 * HOUR + 1, 9 * HOUR + 2, 9 * HOUR + 3]
    assert clock.pending == 0


@pytest.mark.parametrize("times", [[], [3], [3, 90 * HOUR]])
def test_fewer_records_than_three_are_believed_at_the_end(times):
    assert seconds(admitted(map(ssh, times))[0]) == times


def test_a_duration_that_is_too_long_moves_nothing_either():
    broken = Conn(ts=START, duration=10**9 * SECOND, orig_h="192.0.2.1", resp_h="10.0.0.1")
    found, clock = admitted([ssh(1), broken, ssh(2), ssh(3), ssh(4)])
    assert broken not in found
    assert clock.value_ns == START + 3 * SECOND


@given(st.lists(st.integers(0, 40 * HOUR), max_size=12), st.randoms())
def test_what_is_believed_does_not_depend_on_the_order(times, draw):
    shuffled = times.copy()
    draw.shuffle(shuffled)
    assert sorted(seconds(admitted(map(ssh, shuffled))[0])) == sorted(seconds(admitted(map(ssh, times))[0]))


@given(st.lists(st.integers(0, 40 * HOUR), max_size=12), st.integers(0, 12))
def test_it_goes_on_from_its_state(times, cut):
    whole, _ = admitted(map(ssh, times))
    first, second = Watermark(), Watermark()
    found = [one for time in times[:cut] for one in first.hold_or_pass(ssh(time))]
    second.restore(first.state())
    found += [one for time in times[cut:] for one in second.hold_or_pass(ssh(time))]
    assert found + second.flush() == whole


def test_it_never_holds_more_than_two():
    clock = Watermark()
    for time in range(0, 10**8, 2 * HOUR):
        clock.hold_or_pass(ssh(time))
        assert clock.pending <= 2
