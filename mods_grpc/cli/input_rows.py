"""Reads the rows that forecast, detect and stream send: a file, or standard input, in the model's features."""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from mods_grpc.client import Client, ModelInfo, ModelState
from mods_grpc.data.tables import SeriesRows, TableLayout, TableRow, group_by_series, open_table, read_rows
from mods_grpc.errors import DataError

STANDARD_INPUT = "-"
FOLLOW_SECONDS = 0.2


def find_model(client: Client, arguments: argparse.Namespace) -> ModelInfo:
    """Return the version of the model that takes the rows: the named one, or the newest that takes panes or whole windows.

    Raises:
        ModsError: There is no such model.
    """
    model = client.model(arguments.model, arguments.model_version)
    if arguments.model_version is not None or _takes_panes(model) == arguments.panes:
        return model
    others = (other for other in client.models() if other.name == model.name and other.state is ModelState.READY)
    return next((other for other in others if _takes_panes(other) == arguments.panes), model)


def _takes_panes(model: ModelInfo) -> bool:
    return any(feature.pane for feature in model.features)


def read_series(arguments: argparse.Namespace, model: ModelInfo) -> list[SeriesRows]:
    """Read all rows of the file, by series.

    Raises:
        DataError: The file is no table of the model's features, or holds no rows.
        OSError: It can't be read.
    """
    with open_lines(arguments.file, follow=False) as lines:
        series = group_by_series(read_input_rows(lines, arguments, model))
    if not series:
        raise DataError(f"{_display_name(arguments.file)}: holds no rows")
    return series


def read_input_rows(lines: Iterator[str], arguments: argparse.Namespace, model: ModelInfo) -> Iterator[TableRow]:
    """Read rows one by one. Rows without any value are left out, because for the server they are gaps like absent rows.

    Raises:
        DataError: The lines are no table of the model's features.
    """
    for row in read_rows(lines, _table_layout(arguments, model), _display_name(arguments.file)):
        if not all(map(math.isnan, row.values)):
            yield row


@contextmanager
def open_lines(file: str, *, follow: bool) -> Iterator[Iterator[str]]:
    """Open the lines of a file, or of standard input.

    Args:
        file: Path of the file, `-` for standard input.
        follow: Whether to wait for more lines at the end of the file, forever.
    """
    if file == STANDARD_INPUT:
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", newline="")  # as a file is read
        yield iter(sys.stdin)
        return
    with open_table(Path(file)) as source:
        yield _follow(source) if follow else iter(source)


def _follow(source: TextIO) -> Iterator[str]:
    """Yield lines when they are complete."""
    line = ""
    while True:
        line += source.readline()
        if line.endswith("\n"):
            yield line
            line = ""
        else:
            time.sleep(FOLLOW_SECONDS)


def _table_layout(arguments: argparse.Namespace, model: ModelInfo) -> TableLayout:
    columns = dict(pair for pairs in arguments.columns for pair in pairs)
    if unknown := columns.keys() - set(model.feature_names):
        listed = ", ".join(model.feature_names)
        raise DataError(f"--columns: {model.name} has no feature {', '.join(sorted(unknown))}; its features are {listed}")
    return TableLayout(
        features=model.feature_names,
        columns=columns,
        time_column=arguments.time_column,
        series_column=arguments.series_column,
        series=arguments.series,
    )


def _display_name(file: str) -> str:
    return "standard input" if file == STANDARD_INPUT else file
