"""The live view of watch and replay: the latest values of each series, its forecast band, and the last alerts."""

from collections import OrderedDict, deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mods_grpc.cli.output import format_time
from mods_grpc.client import FeatureVerdict, Verdict, VerdictStatus
from mods_grpc.ids.alerts.alert import Alert, format_headline

MAX_ALERTS = 8
MAX_SERIES = 200
HISTORY_VALUES = 32
BAND_WIDTH = 24
_BARS = "▁▂▃▄▅▆▇█"
_SEVERITY_STYLES = ("yellow", "dark_orange", "red", "bold red")


class LiveView:
    """A table of series and a list of alerts, redrawn at each update. Leaving the context restores the terminal.

    Args:
        console: Where to draw; None for standard error, which leaves standard output to the alerts.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._series: OrderedDict[str, Verdict] = OrderedDict()
        self._history: dict[tuple[str, str], deque[float]] = {}
        self._alerts: deque[Alert] = deque(maxlen=MAX_ALERTS)
        self._alert_count = 0
        self._live = Live(console=self._console, get_renderable=self.render, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._live.stop()

    def observe(self, verdicts: list[Verdict], alerts: list[Alert]) -> None:
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

    def render(self) -> Group:
        """Return the table of series and the panel of alerts."""
        table = Table("series", "window", "feature", "", "observed", "forecast band", "expected", "p", box=None, pad_edge=False)
        max_rows = max(4, self._console.height - MAX_ALERTS - 6)
        for series, verdict in sorted(self._series.items(), key=lambda item: (-(item[1].score or 0.0), item[0])):
            for index, feature in enumerate(verdict.features or (None,)):
                if table.row_count >= max_rows:
                    break
                self._add_row(table, series if index == 0 else "", verdict, feature)
        lines = [
            Text(f"{format_time(a.window_start)}  {a.phase:6}  {format_headline(a)}", _SEVERITY_STYLES[a.severity])
            for a in self._alerts
        ]
        title = f"{self._alert_count} alerts" if self._alert_count else "no alerts yet"
        return Group(table, Panel(Group(*lines), title=title, title_align="left", height=MAX_ALERTS + 2))

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
