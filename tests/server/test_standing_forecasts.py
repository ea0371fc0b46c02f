"""Forecasts made before they are asked for: given once, only for the very window, within bounds."""

import asyncio

import numpy as np
import pytest

from mods_grpc.detection import SeriesTable
from mods_grpc.server import standing_forecasts
from mods_grpc.server.series_states import SeriesStates
from mods_grpc.server.standing_forecasts import StandingForecasts

ROWS, TIME = 3, 1000


class Model:
    """Adds the rows up and the time, and counts its runs."""

    def __init__(self):
        self.runs = 0

    def __call__(self, windows, times):
        self.runs += 1
        if np.isnan(windows).any():
            raise ValueError("not finite")
        return windows.sum(axis=1, keepdims=True) + times[:, None, None]


def states_of(*levels):
    states = SeriesStates(SeriesTable(ROWS, 1), max_series=100, max_series_per_sensor=100, idle_seconds=60)
    for number, level in enumerate(levels):
        slot = states.add("sensor", f"series {number}")
        states.table.replace(slot, TIME, np.full((ROWS, 1), float(level)), np.zeros((ROWS, 1), np.bool_))
    return states


def asked(standing, states, slot):
    """Ask for the forecast of a series as a monitor does, less the time."""
    return standing(states.table.window(slot), states.table.last_time[slot : slot + 1]) - states.table.last_time[slot]


def prepared(model, states, slots):
    """Return what stands ready after the loop went round."""
    standing = StandingForecasts(model)

    async def run():
        for slot in slots:
            standing.prepare(states, slot)
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(run())
    return standing


def test_a_forecast_that_stands_ready_needs_no_run_and_is_given_once():
    model, states = Model(), states_of(1, 2)
    standing = prepared(model, states, [0, 1])
    assert model.runs == 2
    for slot, expected in ((1, 6), (0, 3)):
        assert asked(standing, states, slot) == expected
    assert model.runs == 2
    assert asked(standing, states, 0) == 3
    assert model.runs == 3


def test_a_window_that_changed_gets_its_own_forecast():
    model, states = Model(), states_of(1)
    standing = prepared(model, states, [0])
    states.table.push_one(0, TIME, np.array([5.0]))
    assert asked(standing, states, 0) == 7
    assert model.runs == 2


def test_a_window_of_another_time_gets_its_own_forecast():
    model, states = Model(), states_of(1)
    standing = prepared(model, states, [0])
    assert standing(states.table.window(0), np.array([TIME + 1])) == 3 + TIME + 1
    assert model.runs == 2


@pytest.mark.parametrize("hindrance", ["window not full", "somebody's turn", "series gone"])
def test_what_can_not_be_known_yet_is_not_forecast(hindrance):
    model, states = Model(), states_of(1)
    if hindrance == "window not full":
        states.table.filled[0] = ROWS - 1
    elif hindrance == "somebody's turn":
        states.turn.busy = True
    else:
        states.clear()
    prepared(model, states, [0])
    assert model.runs == 0


def test_a_run_that_fails_is_told_when_the_row_comes():
    model, states = Model(), states_of(np.nan)
    standing = prepared(model, states, [0])
    with pytest.raises(ValueError, match="not finite"):
        asked(standing, states, 0)


def test_forecasts_that_nobody_asks_for_are_bounded(monkeypatch):
    monkeypatch.setattr(standing_forecasts, "MOST_BYTES", 10 * (ROWS * 8 + 8 + 8))
    model, states = Model(), states_of(*range(30))
    standing = prepared(model, states, range(30))
    for slot in range(20, 30):
        assert asked(standing, states, slot) == 3 * slot
    assert model.runs == 30
    assert asked(standing, states, 19) == 3 * 19
    assert model.runs == 31
