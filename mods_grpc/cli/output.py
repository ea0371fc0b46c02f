"""What the commands print: tables for people, and JSON for programs."""

import json
import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mods_grpc.artifact.strict_json import to_jsonable
from mods_grpc.client.codec.times import to_datetime
from mods_grpc.client.results import DetectResult, EpisodePhase, ForecastResult, ModelInfo, Verdict, VerdictStatus
from mods_grpc.errors import ModsError

PIPE_WIDTH = 200
_STATE_STYLES = {"READY": "green", "FAILED": "red", "LOADING": "yellow", "RETIRED": "dim"}


def make_console() -> Console:
    """Return a console on standard output, `PIPE_WIDTH` wide if that is not a terminal, so that nothing is cut off in a pipe."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False)


def write_json(value: object, *, indent: int | None = 2) -> None:
    """Write a value as JSON and a newline to standard output. Numbers that are not finite become null."""
    converted = to_jsonable(value, convert=_convert, non_finite_as_null=True)
    sys.stdout.write(json.dumps(converted, indent=indent, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_models(models: Sequence[ModelInfo]) -> None:
    """Print a line per model version."""
    table = Table("model", "version", "state", "features", "window", "horizon", "provider", "digest", box=None, pad_edge=False)
    for model in models:
        style = _STATE_STYLES.get(model.state, "")
        table.add_row(
            escape(model.name),
            str(model.version),
            f"[{style}]{model.state}[/]" if style else str(model.state),
            escape(" ".join(model.feature_names) or model.failure),
            f"{model.window_rows} rows of {_format_span(model.window_seconds)} every {_format_span(model.slide_seconds)}",
            f"{model.horizon} step{'s' if model.horizon > 1 else ''}",
            escape(model.provider.removesuffix("ExecutionProvider")),
            model.digest[:12],
        )
    make_console().print(table)


def print_forecast(series: str, result: ForecastResult) -> None:
    """Print the forecast of one window: a line per step, columns per feature and interval."""
    title = f"{series}, model {result.model.name} {result.model.version}"
    table = Table("time", title=escape(title), title_justify="left", box=None, pad_edge=False)
    for feature in result.features:
        table.add_column(escape(feature), justify="right")
        for coverage in result.coverages:
            table.add_column(f"{coverage:.0%} interval" if (coverage * 100).is_integer() else f"{coverage:.3%} interval")
    for step, time in enumerate(result.times[0]):
        cells = [format_time(time)]
        for column in range(len(result.features)):
            cells.append(_format_number(float(result.values[0, step, column])))
            for index in range(len(result.coverages)):
                low, high = (float(ends[index, 0, step, column]) for ends in (result.lower, result.upper))
                cells.append(f"{_format_number(low)} to {_format_number(high)}")
        table.add_row(*cells)
    make_console().print(table)


def forecast_to_json(series: str, result: ForecastResult) -> dict[str, Any]:
    """Return the forecast of one window as an object for `write_json`."""
    steps = []
    for step, time in enumerate(result.times[0]):
        intervals = [
            {
                "coverage": coverage,
                "lower": dict(zip(result.features, result.lower[index, 0, step].tolist(), strict=True)),
                "upper": dict(zip(result.features, result.upper[index, 0, step].tolist(), strict=True)),
            }
            for index, coverage in enumerate(result.coverages)
        ]
        values = dict(zip(result.features, result.values[0, step].tolist(), strict=True))
        steps.append({"time": format_time(time), "values": values, "intervals": intervals})
    own = bool(result.own_intervals[0])
    return {"series": series, "model": result.model, "own_intervals": own, "steps": steps}


def print_detection(results: Sequence[DetectResult], rows: int, *, everything: bool) -> None:
    """Print the anomalous rows with their reasons, or all rows, and a summary.

    Args:
        results: Results of all series.
        rows: Number of rows in the file.
        everything: Whether to print all rows.
    """
    shown = [verdict for result in results for verdict in result.verdicts if everything or is_reportable(verdict)]
    if shown:
        table = Table("time", "series", "verdict", "score", "p", "reason", box=None, pad_edge=False)
        for verdict in shown:
            score = "" if verdict.score is None else f"{verdict.score:.2f}"
            p_value = "" if verdict.p_value is None else f"{verdict.p_value:.1e}"
            cells = (
                format_time(verdict.observe_time),
                escape(verdict.series),
                _status_word(verdict),
                score,
                p_value,
                escape(verdict.reason),
            )
            table.add_row(*cells, style="bold" if verdict.anomalous else "")
        make_console().print(table)
    summary = summarize_detection(results, rows)
    episodes = f"{summary['episodes']} episode{'' if summary['episodes'] == 1 else 's'}"
    counts = f"{rows} rows, {summary['judged']} scored, {summary['anomalies']} anomalous in {episodes}"
    budget = f"{summary['false_alarms_per_day']:.3g} false alarms per series and day"
    make_console().print(f"{counts} at significance {summary['significance']:.2e}, {budget}")


def detection_to_json(results: Sequence[DetectResult], rows: int, *, everything: bool) -> dict[str, Any]:
    """Return verdicts and their summary as an object for `write_json`; see `print_detection`."""
    verdicts = [verdict for result in results for verdict in result.verdicts if everything or is_reportable(verdict)]
    model = results[0].model if results else None
    return {"model": model, "summary": summarize_detection(results, rows), "verdicts": verdicts}


def summarize_detection(results: Sequence[DetectResult], rows: int) -> dict[str, Any]:
    """Count rows, scored rows, anomalous rows and episodes."""
    return {
        "rows": rows,
        "judged": sum(result.status.count(VerdictStatus.SCORED) for result in results),
        "anomalies": sum(int(result.anomalous.sum()) for result in results),
        "episodes": len({(r.series, v.episode.id) for r in results for v in r.verdicts if v.episode is not None}),
        "significance": results[0].significance if results else math.nan,
        "false_alarms_per_day": results[0].false_alarms_per_day if results else math.nan,
    }


def print_verdict(verdict: Verdict) -> None:
    """Print a verdict as one line and flush it."""
    p_value = "" if verdict.p_value is None else f"  p={verdict.p_value:.1e}"
    reason = verdict.error.message if verdict.error is not None else verdict.reason
    line = f"{format_time(verdict.observe_time)}  {verdict.series}  {_status_word(verdict)}{p_value}" + (
        f"  {reason}" if reason else ""
    )
    make_console().print(line, style="bold red" if verdict.anomalous else None, markup=False, soft_wrap=True)
    sys.stdout.flush()


def replace_unprintable(text: str) -> str:
    """Return text in which what a terminal would obey, or could not show, is replaced: attackers choose names."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def is_reportable(verdict: Verdict) -> bool:
    """Return whether a verdict is shown without `--all`: it is anomalous, ends an episode or carries an error."""
    ended = verdict.episode is not None and verdict.episode.phase is EpisodePhase.ENDED
    return verdict.anomalous or ended or verdict.error is not None


def format_time(time: datetime | np.datetime64) -> str:
    """Format a time in UTC as ISO 8601, with fractions of a second only if it has any."""
    if isinstance(time, np.datetime64):
        time = to_datetime(int(time.astype("datetime64[ns]").astype(np.int64)))
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _status_word(verdict: Verdict) -> str:
    if verdict.episode is not None:
        return f"{'ANOMALY' if verdict.anomalous else 'episode'} ({verdict.episode.phase.lower()})"
    if verdict.anomalous:
        return "ANOMALY"
    return "ok" if verdict.status is VerdictStatus.SCORED else verdict.status.lower().replace("_", " ")


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _format_span(seconds: float) -> str:
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _convert(value: Any) -> Any:
    """Convert times and errors for JSON; other values are returned as they are."""
    if isinstance(value, datetime | np.datetime64):
        return format_time(value)
    if isinstance(value, ModsError):
        return {"reason": str(value.reason), "message": value.message}
    return value
