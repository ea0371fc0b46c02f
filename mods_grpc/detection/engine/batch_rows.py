"""Rows of as many series, each complete and right after a full window: as most calls bring them, in parts and by columns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Indices, Singles, Times
from mods_grpc.detection.engine.chunking import Sharing, parts_of
from mods_grpc.detection.engine.gap_forecasts import Steps
from mods_grpc.detection.scores.detector import Own
from mods_grpc.detection.scores.expectation import Expectation
from mods_grpc.detection.scores.judgement import Judgement, Sightings
from mods_grpc.detection.state.forecast_buffer import DelayLines, pack
from mods_grpc.detection.state.series_table import SeriesTable


class Judge(Protocol):
    """What a monitor needs of a detector."""

    expectation: Expectation
    lines: DelayLines
    pattern_rows: int
    extremal_index: float

    def judge(self, seen: Sightings, own: Own | None, /) -> Judgement:
        """Judge observations, residuals by what is the series' own where `own` is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FullWindows:
    """Applies and judges such rows.

    Attributes:
        detector: Judges. steps: Makes the steps of forecasts that count.
        table: State of the series. slide: Distance between rows in nanoseconds.
        own_of: Makes what applies the own scales of series; None where the calibration's count.
        sharing: How large batches are worked on.
    """

    detector: Judge
    steps: Steps
    table: SeriesTable
    slide: int
    own_of: Callable[[Indices], Own] | None
    sharing: Sharing

    def take(self, slots: Indices, times: Times, values: Floats) -> tuple[Floats, Judgement]:
        """Apply and judge rows `(n, features)` of n series.

        Returns:
            What was forecast, `(n, told * features)`, and the judgement.

        Raises:
            ModelOutputError: As `steps`; nothing was changed.
        """
        table, detector, own_of = self.table, self.detector, self.own_of
        places = detector.lines.places(times // self.slide)

        def look(part: slice) -> tuple[Sightings, Singles, Judgement | None]:
            windows = table.windows(slots[part])
            made = self.steps(windows, times[part] - self.slide)
            seen = Sightings(
                times=times[part],
                observed=values[part],
                forecast=made[:, 0],
                ahead=table.waiting_at(slots[part], places[part]),
                patterns=patterns_of(windows, values[part], detector.pattern_rows),
                complete=True,
            )
            waits = pack(detector.expectation.of(made[:, 1:], detector.lines.delays))
            return seen, waits, None if own_of else detector.judge(seen, None)

        found = self.sharing.each(look, len(slots))
        table.keep_waiting(slots, places, np.concatenate([waits for _, waits, _ in found]))  # from here on series change
        table.push(slots, times, values)
        forecasts = np.concatenate([seen.forecast for seen, _, _ in found])
        judged = [judgement for _, _, judgement in found if judgement is not None]
        if own_of:
            parts = parts_of(len(slots), self.sharing.rows)
            judged = [detector.judge(seen, own_of(slots[part])) for (seen, _, _), part in zip(found, parts, strict=True)]
        return forecasts, Judgement.joined(judged)


def patterns_of(windows: Floats, values: Floats, rows: int) -> NDArray[np.float32]:
    """Return the last rows with the newest, `(n, rows, features)`, of windows and the values after them, `(n, features)`."""
    patterns = np.empty((len(windows), rows, windows.shape[2]), np.float32)
    patterns[:, : rows - 1], patterns[:, rows - 1] = windows[:, windows.shape[1] + 1 - rows :], values
    return patterns
