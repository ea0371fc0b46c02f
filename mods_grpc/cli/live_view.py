"""The live view of a watch: each series with its last values within the forecast band, and the alarms."""

from collections import OrderedDict, deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mods_grpc.cli.output import iso
from mods_grpc.client import FeatureVerdict, Verdict, VerdictStatus
from mods_grpc.ids.alerts.alert import Alert, headline

MOST_ALERTS = 8
MOST_SERIES = 200
HISTORY = 32
BAND_WIDTH = 24
_BARS = "▁▂▃▄▅▆▇█"
_SEVERITY_STYLES = ("yellow", "dark_orange", "red", "bold red")


class LiveView:
    """Redraws itself with each verdict. Leaving it as a context restores the terminal.

    Args:
        console: Where to draw; None for standard error, so that alerts on standard output stay clean.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._series: OrderedDict[str, Verdict] = OrderedDict()
        self._history: dict[tuple[str, str], deque[float]] = {}
        self._alerts: deque[Alert] = deque(maxlen=MOST_ALERTS)
        self._told = 0
        self._live = Live(console=self._console, get_renderable=self.render, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._live.stop()

    def observe(self, verdicts: list[Verdict], alerts: list[Alert]) -> None:
        """Take verdicts and alerts in, and draw."""
        for verdict in verdicts:
            self._series[verdict.series] = verdict
            self._series.move_to_end(verdict.series)
            for part in verdict.features:
                if part.observed is not None:
                    self._history.setdefault((verdict.series, part.feature), deque(maxlen=HISTORY)).append(part.observed)
        while len(self._series) > MOST_SERIES:
            gone, _ = self._series.popitem(last=False)
            self._history = {key: values for key, values in self._history.items() if key[0] != gone}
        self._alerts.extend(alerts)
        self._told += len(alerts)
        if self._live.is_started:
            self._live.refresh()

    def render(self) -> Group:
        """Return what is drawn."""
        table = Table("series", "window", "feature", "", "observed", "forecast band", "expected", "p", box=None, pad_edge=False)
        room = max(4, self._console.height - MOST_ALERTS - 6)
        for series, verdict in sorted(self._series.items(), key=lambda item: (-(item[1].score or 0.0), item[0])):
            for index, part in enumerate(verdict.features or (None,)):
                if table.row_count >= room:
                    break
                self._add_row(table, series if index == 0 else "", verdict, part)
        lines = [Text(f"{iso(a.window_start)}  {a.phase:6}  {headline(a)}", _SEVERITY_STYLES[a.severity]) for a in self._alerts]
        title = f"{self._told} alerts" if self._told else "no alerts yet"
        return Group(table, Panel(Group(*lines), title=title, title_align="left", height=MOST_ALERTS + 2))

    def _add_row(self, table: Table, series: str, verdict: Verdict, part: FeatureVerdict | None) -> None:
        style = "bold red" if verdict.anomalous and part is not None and part.share > 0.5 else ""
        when = f"{verdict.observe_time:%d %b %H:%M}"
        if part is None:
            word = "" if verdict.status is VerdictStatus.SCORED else verdict.status.lower().replace("_", " ")
            table.add_row(escape(series), when, word)
            return
        observed = "" if part.observed is None else f"{part.observed:,.4g}"
        p_value = "" if part.p_value is None else f"{part.p_value:.1g}"
        spark = sparkline(self._history.get((verdict.series, part.feature), ()))
        table.add_row(
            escape(series), when, escape(part.feature), spark, observed, band(part), f"{part.expected:,.4g}", p_value, style=style
        )


def sparkline(values: "deque[float] | tuple[float, ...]") -> str:
    """Draw values as bars, the lowest and highest of them as the ends of the scale."""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = high - low or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)


def band(part: FeatureVerdict) -> str:
    """Draw the forecast band as a line, the forecast as a tick, and what was observed as a dot; far outside as <<< or >>>."""
    low, high = part.lower, part.upper
    if not high > low:
        return ""
    start, end = BAND_WIDTH // 4, BAND_WIDTH - BAND_WIDTH // 4
    cells = [" "] * start + ["─"] * (end - start) + [" "] * start

    def place(value: float) -> int:
        return start + round((value - low) / (high - low) * (end - start - 1))

    cells[max(start, min(end - 1, place(part.expected)))] = "┼"
    if part.observed is not None:
        at = place(part.observed)
        if 0 <= at < BAND_WIDTH:
            cells[at] = "●"
        else:
            cells[:3], cells[-3:] = (["<"] * 3, cells[-3:]) if at < 0 else (cells[:3], [">"] * 3)
    return "".join(cells)
