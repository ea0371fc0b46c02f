"""Labelled sets read from folders into one form."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

MINUTE = 60
NPZ_SLIDE_SECONDS = MINUTE  # server metrics without times
REGULAR_SHARE = 0.99
TIME_NAMES, VALUE_NAMES, LABEL_NAMES = ("timestamp", "time", "datetime", "date"), ("value",), ("label", "is_anomaly", "anomaly")


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """A set in two parts: `train` `(n, features)` without labelled anomalies, and `test` `(m, features)` with `label` `(m,)`.

    `train_times` and `test_times` are Unix seconds. Dropped rows leave a gap in `train_times`.
    """

    name: str
    train: np.ndarray
    train_times: np.ndarray
    test: np.ndarray
    test_times: np.ndarray
    label: np.ndarray
    slide_seconds: int

    @property
    def rows_per_day(self):
        return 86_400 / self.slide_seconds

    def to_grid(self):
        """Return times and values of both parts on one grid, NaN in gaps, and the indices of the test's rows."""
        times = np.concatenate([self.train_times, self.test_times])
        steps, rest = np.divmod(times - times[0], self.slide_seconds)
        values = np.full((int(steps[-1]) + 1, self.train.shape[1]), np.nan)
        assert not rest.any()
        assert (np.diff(steps) > 0).all()
        values[steps] = np.concatenate([self.train, self.test])
        grid = times[0] + np.arange(len(values)) * self.slide_seconds
        return grid, values, steps[len(self.train) :]


def find_sets(folders):
    """Yield every labelled set below some folders, in order of path. Skipped files and why go to standard error."""
    files = sorted({path for folder in map(Path, folders) for path in _list_files(folder)})
    for path in files:
        read = _read_npz if path.suffix == ".npz" else _read_csv
        try:
            yield read(path)
        except ValueError as error:
            print(f"skipped {path}: {error}", file=sys.stderr)


def _list_files(folder):
    if folder.is_file():
        return [folder]
    return [path for path in folder.rglob("*") if re.search(r"\.(npz|csv|csv\.gz)$", path.name, re.IGNORECASE)]


def _read_npz(path):
    with np.load(path, allow_pickle=False) as parts:
        if not {"train", "test", "label"} <= set(parts.files):
            raise ValueError("no arrays train, test and label")
        train, test, label = (np.asarray(parts[name], np.float64) for name in ("train", "test", "label"))
    train, test = (part[:, None] if part.ndim == 1 else part for part in (train, test))
    label = label.max(axis=1) if label.ndim == 2 else label
    if train.shape[1] != test.shape[1] or len(label) != len(test):
        raise ValueError("train, test and label do not fit together")
    train = train[np.isfinite(train).all(axis=1)]
    test = pd.DataFrame(test).ffill().bfill().to_numpy()
    times = np.arange(len(train) + len(test)) * NPZ_SLIDE_SECONDS
    return LabelledSet(
        name=path.stem,
        train=train,
        train_times=times[: len(train)],
        test=test,
        test_times=times[len(train) :],
        label=(label > 0).astype(np.int64),
        slide_seconds=NPZ_SLIDE_SECONDS,
    )


def _read_csv(path):
    table = pd.read_csv(path)
    table.columns = [str(column).strip().lower() for column in table.columns]
    time, value, label = (
        next((name for name in names if name in table), None) for names in (TIME_NAMES, VALUE_NAMES, LABEL_NAMES)
    )
    if time is None or value is None:
        raise ValueError("no columns timestamp and value")
    seconds = _to_seconds(table[time])
    labels = table[label].to_numpy(np.float64) > 0 if label else _read_nab_labels(path, seconds)
    table = pd.DataFrame({"time": seconds, "value": table[value].to_numpy(np.float64), "label": labels})
    table = table.sort_values("time", kind="stable").drop_duplicates("time").dropna().reset_index(drop=True)
    times, slide = table["time"].to_numpy(), int(np.median(np.diff(table["time"])))
    steps = np.diff(times)
    if (steps == slide).mean() < REGULAR_SHARE or (steps % slide).any():
        times = times[0] + np.arange(len(times)) * slide  # irregular: keep the order of rows only
    values, labels = table[["value"]].to_numpy(), table["label"].to_numpy().astype(np.int64)
    half = len(table) // 2
    good = np.flatnonzero(labels[:half] == 0)
    name = re.sub(r"\.csv(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    return LabelledSet(
        name=name,
        train=values[good],
        train_times=times[good],
        test=values[half:],
        test_times=times[half:],
        label=labels[half:],
        slide_seconds=slide,
    )


def _to_seconds(column):
    if pd.api.types.is_numeric_dtype(column):
        numbers = column.to_numpy(np.float64)
        return (numbers // 1000 if numbers.max() > 1e11 else numbers).astype(np.int64)
    return pd.to_datetime(column, utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)


def _read_nab_labels(path, seconds):
    for folder in (path.parent, *list(path.parents)[1:4]):
        for windows in sorted(folder.glob("*combined_windows.json")) + sorted(folder.glob("labels/combined_windows.json")):
            label_windows = json.loads(windows.read_text())
            spans = [spans for name, spans in label_windows.items() if name.split("/")[-1] == path.name]
            if spans:
                labels = np.zeros(len(seconds), np.bool_)
                for start, end in spans[0]:
                    first, last = (pd.Timestamp(bound).timestamp() for bound in (start, end))
                    labels |= (seconds >= first) & (seconds <= last)
                return labels
    raise ValueError("no column label, and no combined_windows.json names it")
