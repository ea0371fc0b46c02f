"""The command `select-features`: which columns are worth forecasting, as a table, JSON and pictures."""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress
from rich.table import Table

from mods_grpc.errors import DataError
from training.cli.console import console
from training.data.datapool import list_columns
from training.data.series import Series
from training.data.source import DEFAULT_WINDOW_SLIDE, SourceConfig, load
from training.data.table import number_columns
from training.data.time_range import parse_interval
from training.evaluation.evaluation import finite
from training.feature_selection.plots import dependence_figure, intermittence_figure, memory_figure
from training.feature_selection.selection import Selection, examine, table_rows
from training.reporting.figures import render

TABLE_FILE, FACTS_FILE = "selection.tsv", "selection.json"
SHOWN = ("missing", "not 0", "class", "ADF p", "MI with itself ahead", "R2 on others", "advice")


def select_features_command(arguments: argparse.Namespace) -> None:
    """Examine the columns, show what was found and write it."""
    source = _source(arguments)
    series = load(source, parse_interval(source.train_time_range))
    if series.members:
        raise DataError(f"select-features looks at one series, the data holds {len(series.members)}; name one with --only-series")
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("examining", total=len(series.names))
        selection = examine(series, arguments.steps_ahead, lambda name: progress.update(task, advance=1, description=name))
    _show(selection, series)
    _write(Path(arguments.output), selection)


def everything(protocols: dict[str, list[str]]) -> str:
    """Make the query that selects all columns, named after protocol and column."""
    parts = []
    for protocol, columns in protocols.items():
        chosen = [f"{column}~{re.sub(r'[^A-Za-z0-9]+', '_', f'{protocol}_{column}').strip('_')}" for column in columns]
        parts.append("|".join([protocol, *chosen]))
    return ";".join(parts)


def _source(arguments: argparse.Namespace) -> SourceConfig:
    """Read all columns where none are asked for."""
    told = {field.name: value for field in fields(SourceConfig) if (value := vars(arguments).get(field.name)) is not None}
    source = SourceConfig(train_time_range=arguments.time_range, **told)
    if source.csv and not source.features:
        return replace(source, features=",".join(number_columns(Path(source.csv), source.time_column)))
    if arguments.data_select_query:
        return replace(source, data_select_query=arguments.data_select_query)
    if source.datapool:
        found = list_columns(Path(source.datapool), source.window_slide or DEFAULT_WINDOW_SLIDE)
        wanted = [name.strip() for name in arguments.protocols.split(",") if name.strip()] or list(found)
        if unknown := [name for name in wanted if name not in found]:
            raise DataError(f"no protocol {', '.join(unknown)}; there are {', '.join(found)}")
        return replace(source, data_select_query=everything({name: found[name] for name in wanted}))
    return source


def _show(selection: Selection, series: Series) -> None:
    rows = table_rows(selection.facts)
    shown = [index for index, name in enumerate(rows[0]) if name in SHOWN]
    table = Table(title=f"{len(series.times)} rows, {series.times[0]} to {series.times[-1]}")
    table.add_column("feature", overflow="fold", min_width=16)
    for index in shown:
        table.add_column(rows[0][index])
    for row in rows[1:]:
        table.add_row(row[0], *(row[i] for i in shown))
    console.print(table)
    used = [f for f in selection.facts if f.advice.startswith("use")]
    console.print(f"{len(used)} of {len(selection.facts)} features are of use", highlight=False)


def _write(folder: Path, selection: Selection) -> None:
    text = "\n".join("\t".join(row) for row in table_rows(selection.facts)) + "\n"
    pictures: Sequence[tuple[str, Any]] = (
        ("memory.png", memory_figure),
        ("dependence.png", dependence_figure),
        ("intermittence.png", intermittence_figure),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TABLE_FILE).write_text(text, encoding="utf-8")
        (folder / FACTS_FILE).write_text(json.dumps(_tree(selection), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        for name, draw in pictures:
            (folder / name).write_bytes(render(partial(draw, selection)))
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}") from error
    console.print(
        f"{TABLE_FILE}, {FACTS_FILE} and {', '.join(name for name, _ in pictures)} written to {folder}", highlight=False
    )


def _tree(selection: Selection) -> Any:
    features = [{**asdict(facts), "advice": facts.advice} for facts in selection.facts]
    plain = [{k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in feature.items()} for feature in features]
    matrices = {"correlation": selection.correlation.tolist(), "information": selection.information.tolist()}
    return finite({"schema": 1, "steps_ahead": selection.steps, "features": plain, **matrices})
