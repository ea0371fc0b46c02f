"""Panes of sliding windows: what each window's last slide alone counted, recovered from windows that overlap.

A window is the sum of its m = window / slide panes (Li et al. 2005), so x(t) - x(t-1) = u(t) - u(t-m): the panes follow from the
windows, up to the m panes of the first window. These offsets are exact where the data leaves no choice: no pane is below 0, so
each has a lower bound, and where the bounds add up to the window, every pane is at its bound; a window of 0 is the simplest case.
Elsewhere they are estimated: neighbouring panes are alike, so that their differences, by phase, have a median near 0. What comes
at the same minute of each window, such as an hourly job, is spread over all phases then; only a table of panes tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mods_grpc.array_types import Bools, Floats
from mods_grpc.data.panes import SLACK, add_up, lower_bounds, relative_panes
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.errors import DataError
from training.data.series import DataReport, Series

ESTIMATION_DAYS = 3
"""Days of windows from which offsets are estimated at least. Their error is then a tenth of what panes change, after a week half
of that."""

AUTO = "auto"
MIN_SHARE = 0.8
"""Share of the rows of a feature whose panes must be known for it to have panes."""
MAX_BREAKS = 1e-3
"""Breaks a row, above which a feature is taken for no sum at all."""
SUM_TOLERANCE = 1e-6
"""Share of a window by which the sum of its panes may differ; and at least of 1, as sums may be rounded to a few decimals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveredPanes:
    """Panes of one series and feature.

    Attributes:
        panes: `(rows,)`, NaN where unknown.
        exact: Rows whose panes are exact. estimated: Rows whose panes are estimated.
        impossible: Rows left out because an estimate was below 0, or because panes of a table do not add up to the window.
        breaks: Rows at which no panes could make the windows, so that they begin anew.
    """

    panes: Floats
    exact: int
    estimated: int
    impossible: int
    breaks: int


def recover_panes(windows: Floats, panes_per_window: int, slide_seconds: int, known_rows: int) -> RecoveredPanes:
    """Recover the panes of sliding windows of counts or sums, anew after every hole, and where no panes could make the windows.

    Args:
        windows: `(rows,)` values of the windows, one slide apart, NaN where missing. An interpolated value is not one of them:
            no pane after it would be right.
        panes_per_window: m, 2 or more.
        slide_seconds: Length of a pane.
        known_rows: Offsets follow from earlier rows only, as far as a stretch without holes has ESTIMATION_DAYS of them; else
            from the first rows of the stretch, exactly or as many days of them, whose own panes stay missing if they are not
            exact by then. So no pane depends on later rows that are not to be learned from.
    """
    panes = np.full(len(windows), np.nan)
    exact, estimated, negative, breaks = 0, 0, 0, 0
    enough = max(ESTIMATION_DAYS * DAY_SECONDS // slide_seconds, 2 * panes_per_window)
    waiting = find_stretches(np.isfinite(windows))[::-1]
    while waiting:
        stretch = waiting.pop()
        relative, total = relative_panes(windows[stretch], panes_per_window), float(windows[stretch.start])
        slack = _slack(relative, total, panes_per_window)
        rounding = SLACK * np.maximum.accumulate(np.abs(windows[stretch]))
        if impossible := int(np.argmax(slack < -rounding)):
            breaks += 1
            waiting += [slice(stretch.start + impossible, stretch.stop), slice(stretch.start, stretch.start + impossible)]
            continue
        is_known = known_rows - stretch.start >= enough
        fit_rows = known_rows - stretch.start if is_known else enough
        met = np.flatnonzero(slack[:fit_rows] <= rounding[:fit_rows])
        is_exact = len(met) > 0
        if not is_exact and len(relative) < enough:
            continue
        phases = np.arange(len(relative)) % panes_per_window
        if is_exact:
            offsets = lower_bounds(relative[:fit_rows], panes_per_window)
        else:
            whole = bool((windows[stretch] == np.floor(windows[stretch])).all())
            offsets = _estimate_offsets(relative[:fit_rows], total, panes_per_window, whole=whole)
        part = relative + offsets[phases]
        part[np.abs(part) <= rounding] = 0.0
        below = part < 0
        part[below] = np.nan
        if not is_known:
            part[: int(met[0]) if is_exact else enough] = np.nan
        panes[stretch] = part
        negative += int(below.sum())
        exact += int(np.isfinite(part).sum()) if is_exact else 0
        estimated += 0 if is_exact else int(np.isfinite(part).sum())
    if breaks:  # no window may hold panes from before and after one
        sums = add_up(panes, panes_per_window)
        panes[np.abs(sums - windows) > SUM_TOLERANCE * np.maximum(np.abs(windows), 1.0)] = np.nan
    return RecoveredPanes(panes=panes, exact=exact, estimated=estimated, impossible=negative, breaks=breaks)


def add_panes(
    named: Mapping[str, Series],
    recoverable: Mapping[str, Series],
    choice: str,
    known_rows: Mapping[str, int],
    read: Mapping[str, Mapping[int, RecoveredPanes]] | None = None,
) -> dict[str, Series]:
    """Let the rows of series hold panes of the features that are chosen; the same ones of all series.

    Args:
        named: The series by name, repaired.
        recoverable: The same before missing values were filled, without the rows that are excluded.
        choice: AUTO for the features whose windows are sums and of which nearly all panes are known, or comma-separated names.
        known_rows: As of `recover_panes`, by series.
        read: Panes that need not be recovered, by series and index of the feature.

    Raises:
        DataError: A named feature is not there, or has no panes.
    """
    first = next(iter(named.values()))
    m, rest = divmod(first.window_seconds, first.slide_seconds)
    names = [name.strip() for name in choice.split(",") if name.strip()] if choice != AUTO else None
    if names and (unknown := sorted(set(names) - set(first.names))):
        raise DataError(f"panes: no feature {', '.join(unknown)}; there are {', '.join(first.names)}")
    if m < 2 or rest:
        if names:
            raise DataError("panes: windows do not overlap by whole slides, so rows are panes already, or have none")
        return dict(named)
    chosen = [index for index, feature in enumerate(first.features) if (feature.name in names if names else feature.is_additive)]
    recovered_by_series = {
        name: {
            i: (read or {}).get(name, {}).get(i) or recover_panes(series.values[:, i], m, series.slide_seconds, known_rows[name])
            for i in chosen
        }
        for name, series in recoverable.items()
    }
    for index in list(chosen):
        present = sum(int(np.isfinite(series.values[:, index]).sum()) for series in recoverable.values())
        panes = [of_series[index] for of_series in recovered_by_series.values()]
        available, breaks = sum(p.exact + p.estimated for p in panes), sum(p.breaks for p in panes)
        if available >= MIN_SHARE * present > 0 and breaks <= MAX_BREAKS * present:
            continue
        if names:
            raise DataError(
                f"panes: {first.names[index]} has panes at {available} of {present} rows only, and {breaks} at which none could "
                f"make its windows; it may be no sum, or too full of holes"
            )
        chosen.remove(index)
    return {name: _with_panes(series, {i: recovered_by_series[name][i] for i in chosen}) for name, series in named.items()}


def _with_panes(series: Series, panes: Mapping[int, RecoveredPanes]) -> Series:
    if not panes:
        return series
    rows = series.values.copy()
    for index, recovered in panes.items():
        rows[:, index] = np.where(np.isfinite(series.values[:, index]), recovered.panes, np.nan)
    features = tuple(replace(feature, pane=index in panes) for index, feature in enumerate(series.features))
    by_name = {series.names[index]: recovered for index, recovered in panes.items()}
    report = replace(
        series.report,
        exact_panes={name: p.exact for name, p in by_name.items()},
        estimated_panes={name: p.estimated for name, p in by_name.items()},
        impossible_panes={name: p.impossible for name, p in by_name.items()},
    )
    return replace(series, rows=rows, features=features, report=report)


def find_stretches(present: Bools) -> list[slice]:
    """Return the runs of rows that are present."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]]).astype(np.int8)))
    return [slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _slack(relative: Floats, total: float, m: int) -> Floats:
    """Return after each row by how much the lower bounds of the offsets fall short of their sum; below 0, none are possible."""
    rows = np.arange(len(relative))
    bounds = np.zeros(len(relative))
    for phase in range(min(m, len(relative))):
        lowest = np.maximum(np.maximum.accumulate(-relative[phase::m]), 0.0)
        bounds += np.where(rows >= phase, lowest[np.maximum((rows - phase) // m, 0)], 0.0)
    return total - bounds


def _estimate_offsets(relative: Floats, total: float, m: int, *, whole: bool) -> Floats:
    """Return offsets that make neighbouring panes alike in the median, none below 0; they add up to `total`."""
    differences = np.diff(relative)
    steps = np.array([-np.median(differences[(phase - 1) % m :: m]) for phase in range(m)])  # from the phase before
    offsets = np.cumsum(steps - steps.mean())
    offsets += (total - offsets.sum()) / m
    bounds = lower_bounds(relative, m)
    spare = np.maximum(offsets - bounds, 0.0)
    available = total - bounds.sum()
    offsets = bounds + (spare * (available / spare.sum()) if spare.sum() else available / m)
    if not whole:
        return np.asarray(offsets)
    rounded = np.floor(offsets)
    rounded[np.argsort(rounded - offsets, kind="stable")[: round(total - rounded.sum())]] += 1.0
    return np.asarray(rounded)


def describe_panes(report: DataReport) -> str:
    """Return which features have panes and how these came about; empty if none have."""
    parts = []
    for name, exact in report.exact_panes.items():
        counts = {
            "exact": exact,
            "from estimated offsets": report.estimated_panes[name],
            "left out as impossible": report.impossible_panes[name],
        }
        parts.append(f"{name} {', '.join(f'{count} {what}' for what, count in counts.items() if count)}")
    if report.panes_behind:
        where = "behind" if report.panes_behind > 0 else "ahead of"
        parts.append(f"the clock of the table of panes is {abs(report.panes_behind)} slides {where} that of the windows")
    return "; ".join(parts)
