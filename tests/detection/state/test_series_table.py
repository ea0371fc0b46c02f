"""Slots of series: empty when handed out, whatever was there, and no memory for those that are not."""

from pathlib import Path

import numpy as np
import pytest

from mods_grpc.detection import SeriesTable
from mods_grpc.detection.state.series_table import MIN_CAPACITY, SLOT_BLOCK

PAGE_KIB = 4
MANY = 1 << 20


def filled(table, count):
    slots = []
    for _ in range(count):
        slots.append(slot := table.allocate())
        table.replace(slot, slot + 1, np.full((4, 2), slot), np.zeros((4, 2), bool), number=3)
        table.pending[slot], table.factor[slot], table.scale_rows[slot] = slot, slot, slot
    return slots


def resident_kib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB


@pytest.mark.parametrize("reserved", [0, 5 * SLOT_BLOCK])
def test_a_slot_is_empty_when_first_allocated_and_after_its_release(reserved):
    table = SeriesTable(4, 2, pending_rows=3, horizons=2)
    if reserved:
        table.reserve(reserved)
    slots = filled(table, 2 * SLOT_BLOCK + MIN_CAPACITY)
    assert len(set(slots)) == len(slots)
    assert [table.window(slot)[0, 0, 0] for slot in slots] == slots
    for slot in slots[::2]:
        table.release(slot)
    for _ in slots:
        slot = table.allocate()
        assert table.filled[slot] == table.head[slot] == table.scale_rows[slot] == 0
        assert (table.factor[slot], table.wealth[slot]) == (1.0, 0.0)
        assert table.last_time[slot] == table.episode_start[slot] == np.iinfo(np.int64).min
        assert np.isnan(table.pending[slot]).all()
    assert [table.window(slot)[0, 0, 0] for slot in slots[1::2]] == slots[1::2]


def test_a_reserve_for_a_million_series_takes_memory_only_for_those_in_use():
    table = SeriesTable(37, 4, pending_rows=11, horizons=3)
    before = resident_kib()
    table.reserve(MANY)
    filled_in = [table.allocate() for _ in range(100)]
    assert table.head.size == MANY
    assert len(filled_in) == 100
    assert resident_kib() - before < MANY * table.series_bytes / 1024 / 20


def test_a_table_grows_where_its_reserve_is_refused():
    table = SeriesTable(4, 2)
    table.reserve(1 << 55)
    assert filled(table, 3 * SLOT_BLOCK) == list(range(3 * SLOT_BLOCK))


def test_a_reset_drops_what_was_learned_and_keeps_the_window():
    table = SeriesTable(4, 2, pending_rows=3, horizons=2)
    slots = filled(table, 20)
    table.reset_learned(pending=False)
    assert set(table.factor[slots]) == {1.0}
    assert not table.scale_rows[slots].any()
    assert table.pending[slots[7], 0, 0] == slots[7]
    table.reset_learned(pending=True)
    assert np.isnan(table.pending[slots]).all()
    assert [table.window(slot)[0, 0, 0] for slot in slots] == slots
