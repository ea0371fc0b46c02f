"""Many series of the same features, such as hosts or sensors, on one axis of time, so that one model is trained on all.

They lie one after another with nothing known between them, each moved by whole weeks, so that time of day and day of week
stay what they are and no window holds rows of two of them.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np

from mods_grpc.errors import DataError
from training.data.series import DataReport, Rows, Series

WEEK_SECONDS = 7 * 86_400


def join(named: Mapping[str, Series]) -> Series:
    """Lay series out on one axis, in the order of their names.

    Args:
        named: The series, repaired already; all of the same features, window and slide.

    Returns:
        A series whose `members` are the rows of each. All have as many rows, from the first to the last time that any of
        them knows.

    Raises:
        DataError: There is none, or they differ in features or in their grid of time.
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
            raise DataError(f"series {name} is not on the grid of time of the others")
    if len(members) == 1:
        return first
    start, end = min(member.times[0] for member in members), max(member.times[-1] for member in members)
    rows = int((end - start) // np.timedelta64(slide, "s")) + 1
    unit = math.lcm(WEEK_SECONDS, slide)
    stride = -(-(rows * slide + WEEK_SECONDS) // unit) * unit // slide
    length = stride * (len(members) - 1) + rows
    values = np.full((length, len(first.features)), np.nan)
    for index, member in enumerate(members):
        offset = stride * index + int((member.times[0] - start) // np.timedelta64(slide, "s"))
        values[offset : offset + len(member.values)] = member.values
    digest = hashlib.sha256("\n".join(f"{name} {named[name].digest}" for name in sorted(named)).encode())
    return replace(
        first,
        times=start + np.arange(length) * np.timedelta64(slide, "s"),
        values=values,
        digest=digest.hexdigest(),
        report=_sum([member.report for member in members]),
        members=tuple(slice(stride * index, stride * index + rows) for index in range(len(members))),
    )


def in_two(series: Series, earlier: Rows, later: Rows, lead: int) -> tuple[Series, slice, slice]:
    """Bring a part of each series of a pool together, and a later one, as the two parts of one axis.

    Args:
        series: A pool, or a single series, which is returned as it is.
        earlier: A part of each series.
        later: Another. It should begin `lead` rows or more after the earlier one ends.
        lead: Rows before each piece of the later part that come along, to be seen and not to be judged: they are the first
            of their piece, and a window of so many rows must be full before anything is.

    Returns:
        A series, and the rows of the earlier and of the later part in it.
    """
    if not series.members:
        return series, earlier[0], later[0]
    pieces = [
        *earlier,
        *(slice(max(cut.start - lead, member.start), cut.stop) for cut, member in zip(later, series.members, strict=True)),
    ]
    unit = math.lcm(WEEK_SECONDS, series.slide_seconds) // series.slide_seconds
    values, starts = [], []
    end = 0
    for piece in pieces:
        # as far into a week as it was, and a week or more after the piece before
        start = end and end + unit + (piece.start - pieces[0].start - end) % unit
        values.append(np.full((start - end, len(series.features)), np.nan))
        values.append(series.values[piece])
        starts.append(start)
        end = start + piece.stop - piece.start
    times = series.times[pieces[0].start] + np.arange(end) * np.timedelta64(series.slide_seconds, "s")
    later_start = starts[len(earlier)]
    laid = replace(series, times=times, values=np.concatenate(values), members=())
    return laid, slice(0, starts[len(earlier) - 1] + earlier[-1].stop - earlier[-1].start), slice(later_start, end)


def _sum(reports: list[DataReport]) -> DataReport:
    """Add up what was found, but for the longest hole."""
    total: dict[str, object] = {}
    for field in fields(DataReport):
        found = [getattr(report, field.name) for report in reports]
        if field.name == "longest_hole":
            total[field.name] = max(found)
        elif isinstance(found[0], Mapping):
            total[field.name] = {name: sum(one.get(name, 0) for one in found) for name in found[0]}
        else:
            total[field.name] = sum(found)
    return DataReport(**total)  # type: ignore[arg-type]
