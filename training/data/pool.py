"""A pool: many series of the same features, such as hosts or sensors, on one time axis, so that one model is trained on all.

The series follow each other with missing rows in between. Each is moved by whole weeks, so that time of day and day of week
stay the same and no window holds rows of two series.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np

from mods_grpc.array_types import Integers
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.errors import DataError
from training.data.series import DataReport, PartRows, Series

WEEK_SECONDS = 7 * DAY_SECONDS


def join_series(named: Mapping[str, Series]) -> Series:
    """Join series into a pool, in the order of their names.

    Args:
        named: The series by name, already repaired, all of the same features, window and slide.

    Returns:
        A series whose `members` are the rows of each, all over the same times: from the first to the last time of any of them.
        A single series is returned as it is.

    Raises:
        DataError: There is no series, or they differ in features or time grid.
    """
    if not named:
        raise DataError("no series to train on")
    members = [named[name] for name in sorted(named)]
    first = members[0]
    slide = first.slide_seconds
    for name, member in named.items():
        if (member.features, member.window_seconds, member.slide_seconds) != (first.features, first.window_seconds, slide):
            raise DataError(f"series {name} differs from the others in features, window or slide")
        if (member.times[0] - first.times[0]) // np.timedelta64(1, "s") % slide:
            raise DataError(f"series {name} is not on the time grid of the others")
    if len(members) == 1:
        return first
    start, end = min(member.times[0] for member in members), max(member.times[-1] for member in members)
    rows = int((end - start) // np.timedelta64(slide, "s")) + 1
    unit = math.lcm(WEEK_SECONDS, slide)
    stride = -(-(rows * slide + WEEK_SECONDS) // unit) * unit // slide
    length = stride * (len(members) - 1) + rows
    values, seen = (np.full((length, len(first.features)), np.nan) for _ in range(2))
    for index, member in enumerate(members):
        offset = stride * index + int((member.times[0] - start) // np.timedelta64(slide, "s"))
        values[offset : offset + len(member.values)] = member.values
        seen[offset : offset + len(member.values)] = member.rows
    digest = hashlib.sha256("\n".join(f"{name} {named[name].digest}" for name in sorted(named)).encode())
    return replace(
        first,
        times=start + np.arange(length) * np.timedelta64(slide, "s"),
        values=values,
        rows=seen,
        digest=digest.hexdigest(),
        report=_add_reports([member.report for member in members]),
        members=tuple(slice(stride * index, stride * index + rows) for index in range(len(members))),
    )


class JoinedParts(NamedTuple):
    """Two parts of each series of a pool on one time axis.

    Attributes:
        series: The parts: first the earlier one of all series, then the later one of all.
        earlier, later: Their rows.
        members: The rows of each series of the pool in both parts, in order of time.
    """

    series: Series
    earlier: slice
    later: slice
    members: tuple[Integers, ...]


def join_parts(series: Series, earlier: PartRows, later: PartRows, lead: int) -> JoinedParts:
    """Join two parts of each series of a pool on one time axis: first the earlier part of all, then the later part of all.

    Args:
        series: A pool, or a single series, which is returned as it is.
        earlier: A part of each series.
        later: A later part of each series. It should begin `lead` rows or more after the earlier one ends.
        lead: Rows of a window. As many rows before each piece of the later part are included, so that its first row has a full
            window.
    """
    if not series.members:
        rows = np.concatenate([np.arange(part.start, part.stop) for part in (earlier[0], later[0])])
        return JoinedParts(series, earlier[0], later[0], (rows,))
    pieces = [
        *earlier,
        *(slice(max(cut.start - lead, member.start), cut.stop) for cut, member in zip(later, series.members, strict=True)),
    ]
    unit = math.lcm(WEEK_SECONDS, series.slide_seconds) // series.slide_seconds
    values, seen, starts = [], [], []
    end = 0
    for piece in pieces:
        # at the same time of the week as before, a week or more after the previous piece
        start = end and end + unit + (piece.start - pieces[0].start - end) % unit
        between = np.full((start - end, len(series.features)), np.nan)
        values += [between, series.values[piece]]
        seen += [between, series.rows[piece]]
        starts.append(start)
        end = start + piece.stop - piece.start
    times = series.times[pieces[0].start] + np.arange(end) * np.timedelta64(series.slide_seconds, "s")
    later_start = starts[len(earlier)]
    joined = replace(series, times=times, values=np.concatenate(values), rows=np.concatenate(seen), members=())
    rows_of = [start + np.arange(piece.stop - piece.start) for start, piece in zip(starts, pieces, strict=True)]
    count = len(earlier)
    leads = [cut.start - piece.start for cut, piece in zip(later, pieces[count:], strict=True)]
    members = tuple(np.concatenate([rows_of[index], rows_of[count + index][leads[index] :]]) for index in range(count))
    earlier_end = starts[count - 1] + earlier[-1].stop - earlier[-1].start
    return JoinedParts(joined, slice(0, earlier_end), slice(later_start, end), members)


def _add_reports(reports: list[DataReport]) -> DataReport:
    """Add up the counts of all reports. The longest gap is the longest of any series."""
    total: dict[str, object] = {}
    for field in fields(DataReport):
        values = [getattr(report, field.name) for report in reports]
        if field.name == "longest_hole":
            total[field.name] = max(values)
        elif field.name == "panes_behind":
            total[field.name] = max(values, key=abs)
        elif isinstance(values[0], Mapping):
            total[field.name] = {name: sum(one.get(name, 0) for one in values) for name in values[0]}
        else:
            total[field.name] = sum(values)
    return DataReport(**total)  # type: ignore[arg-type]
