"""Rows of recorded windows for models whose rows hold panes: from tables of panes, or recovered where windows tell them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Times
from mods_grpc.client import ModelInfo
from mods_grpc.data.datapool_layout import format_window_slide
from mods_grpc.data.panes import recover_panes
from mods_grpc.errors import DataError
from mods_grpc.ids.windows.recorded import Datapool, find_days, read_day
from mods_grpc.ids.windows.window import WindowBatch


@dataclass(frozen=True, slots=True)
class PaneLayout:
    """Which values of a model's rows are panes.

    Attributes:
        names: The features.
        has_panes: `(features,)`, whether rows hold panes of each.
        window_ns, slide_ns: Window and slide, nanoseconds.
    """

    names: Sequence[str]
    has_panes: Bools
    window_ns: int
    slide_ns: int

    @classmethod
    def of(cls, model: ModelInfo) -> "PaneLayout | None":
        """Return that of a model; None if its rows hold no panes."""
        has_panes = np.array([feature.pane for feature in model.features], np.bool_)
        if not has_panes.any():
            return None
        window_ns, slide_ns = (round(seconds * NANOS_PER_SECOND) for seconds in (model.window_seconds, model.slide_seconds))
        return cls(model.feature_names, has_panes, window_ns, slide_ns)


def add_rows(
    batches: Iterable[WindowBatch],
    layout: PaneLayout,
    *,
    datapool: Datapool | None = None,
    keys: Sequence[str] = (),
    divisors: Sequence[float] = (),
) -> Iterator[WindowBatch]:
    """Yield windows with the rows of a model that takes panes, see `WindowBatch.rows`.

    Without tables of panes all windows are read first, and the panes of each run of windows without holes recovered from them. Of
    a run that is shorter than a window they are missing.

    Args:
        batches: The windows, in order of time.
        layout: Which values are panes.
        datapool: Where the windows are; its tables of windows of one slide hold the panes, if there are some of each protocol.
        keys: Aggregates of the features, such as `conn|in_count_uid`; needed with a datapool.
        divisors: One per key; the aggregate divided by it is in the unit of the feature.

    Raises:
        DataError: There are no tables, and several panes could make the windows; or a table is malformed.
    """
    panes = None if datapool is None else _read_panes(datapool, layout, keys, np.array(divisors))
    if panes is None:
        yield from _recover_rows(list(batches), layout)
        return
    offset_ns = layout.window_ns - layout.slide_ns
    for batch in batches:
        rows = batch.values.copy()
        rows[:, layout.has_panes] = panes.get(batch.start_ns + offset_ns, np.nan)
        yield replace(batch, rows=np.where(np.isnan(batch.values), np.nan, rows))


def _read_panes(datapool: Datapool, layout: PaneLayout, keys: Sequence[str], divisors: Floats) -> Mapping[int, Floats] | None:
    """Return the panes of the features that have them by the start of their slide; None if there are no tables of a protocol."""
    slide_seconds = layout.slide_ns // NANOS_PER_SECOND
    name = f"{format_window_slide(slide_seconds, slide_seconds)}.tsv"
    chosen = np.flatnonzero(layout.has_panes)
    columns: dict[str, list[int]] = {}
    for place, index in enumerate(chosen.tolist()):
        columns.setdefault(keys[index].partition("|")[0], []).append(place)
    panes: dict[int, Floats] = {}
    for protocol, places in columns.items():
        days = find_days(datapool.root / protocol, name)
        if not days:
            return None
        for path in days:
            distinct = read_day(path, [keys[chosen[place]].partition("|")[2] for place in places])
            for nanos, row in zip(distinct.times.tolist(), distinct.values, strict=True):
                panes.setdefault(nanos, np.full(len(chosen), np.nan))[places] = row
    return {nanos: row / divisors[chosen] for nanos, row in panes.items()}


def _recover_rows(batches: list[WindowBatch], layout: PaneLayout) -> Iterator[WindowBatch]:
    places: dict[str, list[tuple[int, int]]] = {}  # of the windows of a series: batch, and index in it
    for number, batch in enumerate(batches):
        for index, series in enumerate(batch.series):
            places.setdefault(series, []).append((number, index))
    rows = [batch.values.copy() for batch in batches]
    for series, of_series in places.items():
        times = np.array([batches[number].start_ns for number, _ in of_series], np.int64)
        windows = np.array([batches[number].values[index] for number, index in of_series])
        for feature in np.flatnonzero(layout.has_panes).tolist():
            panes = _recover(times, windows[:, feature], series, feature, layout)
            for (number, index), pane in zip(of_series, panes.tolist(), strict=True):
                rows[number][index, feature] = pane
    yield from (replace(batch, rows=of_batch) for batch, of_batch in zip(batches, rows, strict=True))


def _recover(times: Times, windows: Floats, series: str, feature: int, layout: PaneLayout) -> Floats:
    """Return the panes `(n,)` of the windows of one series and feature; NaN in runs that are shorter than a window."""
    panes = np.full(len(windows), np.nan)
    present = np.flatnonzero(~np.isnan(windows))
    panes_per_window = layout.window_ns // layout.slide_ns
    for run in np.split(present, np.flatnonzero(np.diff(times[present]) != layout.slide_ns) + 1):
        if len(run) < panes_per_window:
            continue
        recovered = recover_panes(windows[run], panes_per_window)
        if recovered is None:
            raise DataError(
                f"the model's rows hold panes of {layout.names[feature]}, what the last slide of each window alone counted, and "
                f"the windows of {series} don't tell them: replay the logs, or a datapool that aggregate wrote with --panes; or "
                "name a version that takes whole windows with --model-version"
            )
        panes[run] = recovered
    return panes
