"""Panes of a source that has sliding windows only, where they follow from the windows exactly.

A window is the sum of its m panes, so u(t) = x(t) - x(t-1) + u(t-m): what remains open are the m panes of the first window.
None of them can be below 0, nor can any that follow from them: the lowest number that the recursion from 0 reaches in a phase
is a lower bound of the pane that this phase began with. The sum of these panes is the first window. Where the bounds add up to
it, every pane is at its bound, and all panes are exact from then on; a window of 0 is the simplest case. Quiet series get there
within hours. One that is never quiet does not, and its panes stay unknown: they have to be counted at the source.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Times
from mods_grpc.client.codec.times import TimeLike, to_nanos_array
from mods_grpc.errors import InvalidInputError, Reason

SLACK = 1e-11
"""Share of the largest window of a stretch below which numbers count as equal, since sums of fractions are rounded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaneState:
    """The state of n series, to be saved.

    Attributes:
        names: Their names, n.
        times: `(n,)` nanoseconds of the last rows.
        numbers: `(n, 2 * m + 2, features)`: of each phase the recursion, then its lower bound; the last window, NaN if it was
            missing; the largest window of the stretch without holes.
    """

    names: tuple[str, ...]
    times: Times
    numbers: Floats


class PaneRecovery:
    """Recovers the panes of counts and sums, series by series and row by row. A hole starts a series anew.

    Args:
        features: Number of features, all of which must add up; not for means, nor for counts of different values.
        panes: Panes of a window, m: its length over the slide, 2 or more.
        slide_seconds: Distance between rows.

    Raises:
        InvalidInputError: A number is out of range.
    """

    def __init__(self, features: int, panes: int, slide_seconds: int) -> None:
        for field, number, least in (("features", features, 1), ("panes", panes, 2), ("slide_seconds", slide_seconds, 1)):
            if number < least:
                text = f"expected at least {least}, found {number}"
                raise InvalidInputError.for_field(field, Reason.FIELD_INVALID, text, limit=least, actual=number)
        self._features, self._panes, self._slide = features, panes, slide_seconds * NANOS_PER_SECOND
        self._times: dict[str, int] = {}
        self._numbers: dict[str, Floats] = {}

    def recover(self, series: str, time: TimeLike, windows: ArrayLike) -> Floats:
        """Return the panes of the row of a series, `(features,)`; NaN where they are missing or not exact yet.

        Args:
            series: Name of the series.
            time: Start of the row's window. A row that is not later than the last one changes nothing.
            windows: `(features,)` values of the windows, NaN where missing.

        Raises:
            InvalidInputError: The values are not one per feature, or one is below 0 or infinite.
        """
        values = np.array(windows, np.float64)
        if values.shape != (self._features,):
            text = f"expected {self._features} values, found an array of shape {values.shape}"
            raise InvalidInputError.for_field("windows", Reason.SHAPE_MISMATCH, text, limit=self._features)
        if not np.all(np.isnan(values) | ((values >= 0) & np.isfinite(values))):
            raise InvalidInputError.for_field("windows", Reason.VALUE_NEGATIVE, "expected finite numbers, 0 or more")
        nanos = int(to_nanos_array(time, "time")[0])
        last_time = self._times.get(series)
        if last_time is not None and nanos <= last_time:
            return np.full(self._features, np.nan)
        if last_time is None or nanos != last_time + self._slide:
            self._numbers[series] = self._start()
        self._times[series] = nanos
        return self._advance(self._numbers[series], nanos // self._slide % self._panes, values)

    def is_exact(self, series: str) -> Bools:
        """Return of which features of a series the panes are exact at its last row, `(features,)`."""
        numbers = self._numbers.get(series)
        if numbers is None:
            return np.zeros(self._features, np.bool_)
        return np.asarray(np.abs(self._slack(numbers)) <= SLACK * numbers[-1])

    def forget(self, series: str) -> None:
        """Drop the state of a series, if there is any."""
        self._times.pop(series, None)
        self._numbers.pop(series, None)

    def save(self) -> PaneState:
        """Return a copy of the state of all series."""
        numbers = np.stack(list(self._numbers.values())) if self._numbers else np.zeros((0, *self._start().shape))
        return PaneState(names=tuple(self._times), times=np.array(list(self._times.values()), np.int64), numbers=numbers)

    def restore(self, state: PaneState) -> None:
        """Replace the state of all series by a saved one.

        Raises:
            InvalidInputError: It is of another number of features or panes, or its arrays don't belong together.
        """
        expected = (len(state.names), *self._start().shape)
        if state.numbers.shape != expected or state.times.shape != expected[:1]:
            text = f"expected numbers {expected} and as many times, found {state.numbers.shape} and {state.times.shape}"
            raise InvalidInputError.for_field("state", Reason.SHAPE_MISMATCH, text)
        self._times = dict(zip(state.names, state.times.tolist(), strict=True))
        self._numbers = {name: numbers.copy() for name, numbers in zip(state.names, state.numbers, strict=True)}

    def _start(self) -> Floats:
        numbers = np.zeros((2 * self._panes + 2, self._features))
        numbers[-2] = np.nan
        return numbers

    def _advance(self, numbers: Floats, phase: int, windows: Floats) -> Floats:
        """Apply the windows `(features,)` of the next row, and return its panes."""
        recursion, bounds, last, largest = numbers[: self._panes], numbers[self._panes : -2], numbers[-2], numbers[-1]
        begins = np.isnan(last)
        recursion[phase] += np.where(begins, 0.0, windows - last)
        np.maximum(bounds[phase], -recursion[phase], out=bounds[phase])
        last[:] = windows
        np.maximum(largest, windows, out=largest)
        slack = self._slack(numbers)
        anew = begins | np.isnan(windows) | (slack < -SLACK * largest)  # by the last, no panes could make the windows
        recursion[:, anew], bounds[:, anew], largest[anew] = 0.0, 0.0, windows[anew]
        exact = np.abs(np.where(anew, windows, slack)) <= SLACK * largest
        recursion[:, exact] = np.maximum(recursion[:, exact] + bounds[:, exact], 0.0)  # the panes themselves
        bounds[:, exact] = 0.0
        largest[exact & (windows == 0.0)] = 0.0
        return np.where(exact, recursion[phase], np.nan)

    def _slack(self, numbers: Floats) -> Floats:
        """Return by how much the lower bounds fall short of the first window, `(features,)`."""
        return np.asarray(numbers[-2] - numbers[: self._panes].sum(axis=0) - numbers[self._panes : -2].sum(axis=0))
