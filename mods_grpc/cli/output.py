"""What the commands print: tables for people, JSON for programs, and the live view of watch and replay."""

import json
import math
import sys
from collections import OrderedDict, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mods_grpc.artifact.strict_json import to_jsonable
from mods_grpc.client.codec.times import to_datetime
from mods_grpc.client.results import DetectResult, EpisodePhase, FeatureVerdict, ForecastResult, ModelInfo, Verdict, VerdictStatus
from mods_grpc.errors import ModsError
from mods_grpc.ids.alerts.alert import Alert, format_headline
from mods_grpc.ids.alerts.notice import Notice
from mods_grpc.ids.alerts.rule_alert import RuleAlert, format_rule_headline

MAX_ALERTS = 8
MAX_SERIES = 200
HISTORY_VALUES = 32
BAND_WIDTH = 24
_BARS = "▁▂▃▄▅▆▇█"
_SEVERITY_STYLES = ("yellow", "dark_orange", "red", "bold red")
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
    return {"series": series, "model": result.model, "steps": steps}


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
    make_console().print(f"{counts} at significance {summary['significance']:.2e}")


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


class LiveView:
    """A table of series and a list of alerts, redrawn at each update. Leaving the context restores the terminal.

    Args:
        console: Where to draw; None for standard error, which leaves standard output to the alerts.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._series: OrderedDict[str, Verdict] = OrderedDict()
        self._history: dict[tuple[str, str], deque[float]] = {}
        self._alerts: deque[Alert | RuleAlert] = deque(maxlen=MAX_ALERTS)
        self._alert_count = 0
        self._notices: list[Notice] = []
        self._live = Live(console=self._console, get_renderable=self.render, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._live.stop()

    def observe(self, verdicts: Sequence[Verdict], alerts: Sequence[Alert | RuleAlert]) -> None:
        """Add verdicts and alerts, and redraw."""
        for verdict in verdicts:
            self._series[verdict.series] = verdict
            self._series.move_to_end(verdict.series)
            for feature in verdict.features:
                if feature.observed is not None:
                    history = self._history.setdefault((verdict.series, feature.feature), deque(maxlen=HISTORY_VALUES))
                    history.append(feature.observed)
        while len(self._series) > MAX_SERIES:
            evicted, _ = self._series.popitem(last=False)
            self._history = {key: values for key, values in self._history.items() if key[0] != evicted}
        self._alerts.extend(alerts)
        self._alert_count += len(alerts)
        if self._live.is_started:
            self._live.refresh()

    def show_notices(self, notices: list[Notice]) -> None:
        """Show the open notices in place of those before, and redraw."""
        self._notices = notices
        if self._live.is_started:
            self._live.refresh()

    def render(self) -> Group:
        """Return the table of series, the open notices and the panel of alerts."""
        table = Table("series", "window", "feature", "", "observed", "forecast band", "expected", "p", box=None, pad_edge=False)
        max_rows = max(4, self._console.height - MAX_ALERTS - 6)
        for series, verdict in sorted(self._series.items(), key=lambda item: (-(item[1].score or 0.0), item[0])):
            for index, feature in enumerate(verdict.features or (None,)):
                if table.row_count >= max_rows:
                    break
                self._add_row(table, series if index == 0 else "", verdict, feature)
        lines = [
            Text(f"{format_time(a.window_start)}  {a.phase:6}  {_format_alert(a)}", _SEVERITY_STYLES[a.severity])
            for a in self._alerts
        ]
        title = f"{self._alert_count} alerts" if self._alert_count else "no alerts yet"
        alerts = Panel(Group(*lines), title=title, title_align="left", height=MAX_ALERTS + 2)
        if not self._notices:
            return Group(table, alerts)
        impaired = [Text(f"since {format_time(notice.since)}  {notice.message}; {notice.hint}") for notice in self._notices]
        return Group(
            table, Panel(Group(*impaired), title="monitoring is impaired", title_align="left", style="bold yellow"), alerts
        )

    def _add_row(self, table: Table, series: str, verdict: Verdict, feature: FeatureVerdict | None) -> None:
        style = "bold red" if verdict.anomalous and feature is not None and feature.share > 0.5 else ""
        when = f"{verdict.observe_time:%d %b %H:%M}"
        if feature is None:
            status = "" if verdict.status is VerdictStatus.SCORED else verdict.status.lower().replace("_", " ")
            table.add_row(escape(series), when, status)
            return
        observed = "" if feature.observed is None else f"{feature.observed:,.4g}"
        p_value = "" if feature.p_value is None else f"{feature.p_value:.1g}"
        line = draw_sparkline(self._history.get((verdict.series, feature.feature), ()))
        table.add_row(
            escape(series),
            when,
            escape(feature.feature),
            line,
            observed,
            draw_band(feature),
            f"{feature.expected:,.4g}",
            p_value,
            style=style,
        )


def _format_alert(alert: Alert | RuleAlert) -> str:
    return format_rule_headline(alert) if isinstance(alert, RuleAlert) else format_headline(alert)


def draw_sparkline(values: "deque[float] | tuple[float, ...]") -> str:
    """Draw values as bars, scaled from the lowest to the highest of them."""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = high - low or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)


def draw_band(feature: FeatureVerdict) -> str:
    """Draw the forecast band as a line, the forecast as a tick and the observed value as a dot; far outside as <<< or >>>."""
    low, high = feature.lower, feature.upper
    if not high > low:
        return ""
    start, end = BAND_WIDTH // 4, BAND_WIDTH - BAND_WIDTH // 4
    cells = [" "] * start + ["─"] * (end - start) + [" "] * start

    def column_of(value: float) -> int:
        return start + round((value - low) / (high - low) * (end - start - 1))

    cells[max(start, min(end - 1, column_of(feature.expected)))] = "┼"
    if feature.observed is not None:
        at = column_of(feature.observed)
        if 0 <= at < BAND_WIDTH:
            cells[at] = "●"
        else:
            cells[:3], cells[-3:] = (["<"] * 3, cells[-3:]) if at < 0 else (cells[:3], [">"] * 3)
    return "".join(cells)
