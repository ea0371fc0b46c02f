"""Rows of text as they come from files, turned into distinct rows of numbers in time order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mods_grpc.array_types import Floats
from mods_grpc.errors import DataError
from training.data.time_range import DateTimes

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WINDOW_SLIDE = re.compile(r"w(\d{1,4})([smhd])-s(\d{1,4})([smhd])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Distinct:
    """Rows with distinct ascending times, and what stood in the way; `repeated` are times that more than one row had."""

    times: DateTimes
    values: Floats
    duplicates: int
    contradictions: int
    repeated: DateTimes


def parse_window_slide(text: str) -> tuple[int, int]:
    """Read `w01h-s10m` as window and slide in seconds.

    Raises:
        DataError: Not such a name, or a slide that is not in (0, window].
    """
    match = _WINDOW_SLIDE.fullmatch(text)
    if not match:
        raise DataError(f"window_slide is {text!r}, expected the form w01h-s10m")
    window = int(match[1]) * _SECONDS[match[2]]
    slide = int(match[3]) * _SECONDS[match[4]]
    if not 0 < slide <= window:
        raise DataError(f"window_slide is {text!r}: the slide must be above 0 and not above the window")
    return window, slide


def parse_times(texts: "pd.Series[str]", where: str) -> DateTimes:
    """Read ISO 8601 times, or seconds since 1970. A zone is applied; `Z` and no zone are taken as they stand.

    Raises:
        DataError: A time that can't be read.
    """
    try:
        if texts.str.fullmatch(r"\d{9,11}(\.\d+)?").all():
            parsed = pd.to_datetime(texts.astype(np.float64), unit="s", utc=True)
        else:
            parsed = pd.to_datetime(texts, utc=True, format="ISO8601")
    except ValueError as error:
        raise DataError(f"{where}: a time that is not ISO 8601 ({_first_line(error)})") from error
    if parsed.isna().any():
        raise DataError(f"{where}: row {int(np.flatnonzero(parsed.isna())[0]) + 1} has no time")
    return parsed.dt.tz_localize(None).to_numpy().astype("datetime64[s]")


def parse_numbers(texts: "pd.Series[str]", where: str) -> Floats:
    """Read numbers; an empty cell, `-` and `NaN` are missing.

    Raises:
        DataError: A cell that is not a finite number.
    """
    stripped = texts.str.strip().str.strip('"')
    absent = stripped.str.lower().isin(["", "-", "nan", "null", "none"])
    numbers = pd.to_numeric(stripped.mask(absent), errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers) & ~absent.to_numpy())
    if wrong.size:
        raise DataError(f"{where}: row {wrong[0] + 1} holds {stripped.iloc[wrong[0]][:40]!r}, expected a number")
    return numbers


def order_rows(times: DateTimes, values: Floats) -> Distinct:
    """Sort rows by their own times and merge repeated times.

    A repeated row with the same values is a duplicate; a missing cell is completed from the other row. Cells that
    disagree become missing: which of them is right is not known.
    """
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    first = np.ones(len(times), dtype=np.bool_)
    first[1:] = times[1:] != times[:-1]
    merged = values[first].copy()
    target = np.cumsum(first) - 1
    duplicates = 0
    conflicting = np.zeros_like(merged, dtype=np.bool_)
    contradictions = 0
    for row in np.flatnonzero(~first):
        kept, other = merged[target[row]], values[row]
        differs = np.isfinite(kept) & np.isfinite(other) & (kept != other)
        contradictions += bool(differs.any())
        duplicates += not differs.any()
        conflicting[target[row]] |= differs
        merged[target[row]] = np.where(np.isfinite(kept), kept, other)
    merged[conflicting] = np.nan
    return Distinct(
        times=times[first],
        values=merged,
        duplicates=duplicates,
        contradictions=contradictions,
        repeated=np.unique(times[~first]),
    )


def on_grid(times: DateTimes, slide_seconds: int, origin: int = 0) -> NDArray[np.bool_]:
    """Tell which times lie on the grid of the slide, counted from `origin` in seconds since 1970."""
    remainders = (times.astype(np.int64) - origin) % slide_seconds
    return np.equal(remainders, 0)


def require_columns(wanted: Sequence[str], found: Sequence[str], where: str) -> None:
    """Check that all columns are there.

    Raises:
        DataError: Not all are; the message lists those that are.
    """
    absent = [column for column in wanted if column not in found]
    if absent:
        raise DataError(f"{where}: no column {', '.join(absent)}; there are {', '.join(found)}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
