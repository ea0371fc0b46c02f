"""Small synthetic data for tests of training."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from training.data.feature import describe_column
from training.data.series import DataReport, Series, make_series

Rows = Sequence[tuple[str, Mapping[str, str]]]
"""Rows of a file: start of the window, and text by column."""


def format_datapool(rows: Rows, end_shift_hours: int = 1) -> str:
    columns = list(rows[0][1])
    lines = ["\t".join(["window_start", "window_end", *columns])]
    for start, cells in rows:
        hour = int(start[11:13]) + end_shift_hours
        end = f"{start[:11]}{hour:02d}{start[13:]}"
        lines.append("\t".join([f"{start}.000Z", f"{end}.000Z", *(cells[column] for column in columns)]))
    return "\n".join(lines) + "\n"


def write_day(root: Path, protocol: str, day: str, text: str, window_slide: str = "w01h-s10m") -> Path:
    path = root / protocol / day.replace("-", "/") / f"{window_slide}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def zip_days(root: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.rglob("*.tsv")):
            archive.write(path, path.relative_to(root).as_posix())


def make_row_times(count: int, day: str = "2019-06-01") -> list[str]:
    return [f"{day}T{i // 6:02d}:{i % 6}0:00" for i in range(count)]


def make_walk(days: int, features: int = 2, seed: int = 1) -> Series:
    """Make a series of ten-minute rows from 2024-01-01: a daily rhythm plus a random walk."""
    random = np.random.default_rng(seed)
    rows = 144 * days
    rhythm = 1000 + 300 * np.sin(2 * np.pi * np.arange(rows) / 144)[:, None]
    values = np.round(rhythm + np.cumsum(random.normal(0, 4, (rows, features)), axis=0))
    return make_series(
        np.datetime64("2024-01-01T00:00:00") + np.arange(rows) * np.timedelta64(600, "s"),
        values,
        [describe_column(f"x{i}", "conn", "in_count_uid") for i in range(features)],
        window_seconds=3600,
        slide_seconds=600,
        report=DataReport(),
    )


def make_sparse(rows: int, seed: int = 1) -> Series:
    """Make a series of one-minute rows of which most values are 0, as of protocols that a host seldom speaks.

    Its features are a busy count, a count that is 0 in 95 % of rows, one that is 0 in all but three bursts, one that is always 0,
    and the bytes of the second, with a heavy tail.
    """
    random = np.random.default_rng(seed)
    busy = random.poisson(30 + 10 * np.sin(np.arange(rows) / 40))
    seldom = random.poisson(3, rows) * (random.random(rows) < 0.05)
    bursts = np.zeros(rows)
    for start in random.integers(0, rows // 2, 3):
        bursts[start : start + 5] = random.poisson(200, 5)
    sizes = np.round(seldom * random.lognormal(8, 2, rows))
    return make_series(
        np.datetime64("2024-01-01T00:00:00") + np.arange(rows) * np.timedelta64(60, "s"),
        np.column_stack([busy, seldom, bursts, np.zeros(rows), sizes]).astype(float),
        [describe_column(f"x{i}", "conn", "in_count_uid") for i in range(5)],
        window_seconds=600,
        slide_seconds=60,
        report=DataReport(),
    )


def write_table(path: Path, series: Series) -> Path:
    lines = [",".join(["time", *series.names])]
    for time, row in zip(series.times, series.values, strict=True):
        lines.append(",".join([str(time), *("" if np.isnan(value) else f"{value:g}" for value in row)]))
    path.write_text("\n".join(lines) + "\n")
    return path
