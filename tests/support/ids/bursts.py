"""Quiet traffic of `live_day` with bursts of single sources."""

import pytest

from tests.support.ids import live_day


def make_day(minutes, bursts):
    """Return entries as `live_day.make_lines` does.

    Args:
        minutes: Length of the stretch.
        bursts: Who makes 900 connections within six minutes, by the minute in which that begins.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_day, "BURSTS", {host: {} for host in live_day.HOSTS})
        entries = live_day.make_lines(minutes, live_day.PER_MINUTE / len(live_day.HOSTS))
    return sorted(entries + [entry for minute, source in bursts.items() for entry in _make_burst(minute, source)])


def _make_burst(minute, source):
    entries = []
    for number in range(900):
        ts = live_day.START + 60 * minute + 0.4 * number
        shared = f"{ts:.6f}\tB{minute}n{number}\t{source}\t{40_000 + number}\t{live_day.HOSTS[0]}\t22"
        entries.append((ts + 0.1, "conn", f"{shared}\ttcp\t0.100000\t60\t9\n"))
    return entries
