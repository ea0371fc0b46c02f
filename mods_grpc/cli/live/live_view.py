"""The live view of watch and replay: what is in alarm, the strongest first, and the evidence of what is selected."""

import os
import signal
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from threading import RLock
from types import TracebackType
from typing import Self

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from mods_grpc.cli.alerts.details import format_details
from mods_grpc.cli.alerts.history import StoredEpisode
from mods_grpc.cli.alerts.listing import SEVERITIES
from mods_grpc.cli.alerts.summaries import summarize
from mods_grpc.cli.alerts.terminal_text import fit, fit_right, format_band, format_local, format_quantity, format_short, wrap
from mods_grpc.cli.live.alarms import HISTORY_VALUES, Alarms, Row
from mods_grpc.cli.live.drawing import BAND_WIDTH, draw_band, draw_sparkline
from mods_grpc.cli.live.keyboard import Key, Keyboard
from mods_grpc.cli.output import format_time, replace_unprintable
from mods_grpc.client import Verdict, VerdictStatus
from mods_grpc.ids.alerts.alert import Alert, Severity, format_headline
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.notice import Notice
from mods_grpc.ids.alerts.rule_alert import RuleAlert, format_rule_headline
from mods_grpc.ids.alerts.stored_alerts import read_stored_alert

MAX_ALERTS = 8
MAX_NOTICES = 3
_MIN_HEIGHT, _MIN_WIDTH, _MIN_ROWS = 12, 40, 3
_WIDE = 132  # cells from which on the band and the last values are drawn
_STYLES = {Severity.LOW: "yellow", Severity.MEDIUM: "dark_orange", Severity.HIGH: "red", Severity.CRITICAL: "bold red"}
_HELP = "up/down choose, Enter opens, q ends"
_HELP_DETAILS = "up/down scroll, q goes back"


def interrupt() -> None:
    """End the command as Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


class LiveView:
    """A list of what is in alarm and of the series, redrawn at each update. Leaving the context restores the terminal.

    Args:
        console: Where to draw; None for standard error, which leaves standard output to the alerts.
        quit_command: Called when the user asks to end the command.
    """

    def __init__(self, console: Console | None = None, quit_command: Callable[[], None] = interrupt) -> None:
        self._console = console or Console(stderr=True)
        self._quit_command = quit_command
        self._lock = RLock()  # keys come in a thread of their own
        self._alarms = Alarms()
        self._alerts: deque[Alert | RuleAlert] = deque(maxlen=MAX_ALERTS)
        self._alert_count = 0
        self._notices: list[Notice] = []
        self._selected: Hashable = None
        self._is_open = False
        self._scrolled = 0
        self._keyboard = Keyboard(self.press)
        self._live = Live(console=self._console, get_renderable=self.render, auto_refresh=False)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._live.start()
        self._stack.callback(self._live.stop)
        if self._console.is_terminal:
            self._stack.enter_context(self._keyboard)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._is_open = False  # so that the list remains on the screen
        self._stack.close()

    def observe(self, verdicts: Sequence[Verdict], alerts: Sequence[Alert | RuleAlert]) -> None:
        """Add verdicts and alerts, and redraw."""
        with self._lock:
            self._alarms.observe(verdicts, alerts)
            self._alerts.extend(alerts)
            self._alert_count += len(alerts)
        self._refresh()

    def show_notices(self, notices: list[Notice]) -> None:
        """Show the open notices in place of those before, and redraw."""
        with self._lock:
            self._notices = list(notices)
        self._refresh()

    def press(self, key: Key) -> None:
        """Do what a key asks for, and redraw."""
        with self._lock:
            is_end = key is Key.QUIT and not self._is_open
            if self._is_open:
                self._press_in_details(key)
            elif key is Key.OPEN:
                self._is_open, self._scrolled = self._find_selected() is not None, 0
            elif key in {Key.UP, Key.DOWN}:
                self._move(1 if key is Key.DOWN else -1)
        if is_end:
            self._quit_command()
        else:
            self._refresh()

    def render(self) -> Group:
        """Return what is on the screen; it is no higher and no wider than the console."""
        with self._lock:
            width, height = max(_MIN_WIDTH, self._console.width), max(_MIN_HEIGHT, self._console.height) - 1
            row = self._find_selected()
            if self._is_open and row is not None:
                return self._render_details(row, width, height)
            return self._render_list(width, height)

    def _refresh(self) -> None:
        if self._live.is_started:
            self._live.refresh()

    def _press_in_details(self, key: Key) -> None:
        if key in {Key.BACK, Key.QUIT}:
            self._is_open = False
        elif key in {Key.UP, Key.DOWN}:
            self._scrolled = max(0, self._scrolled + (1 if key is Key.DOWN else -1))

    def _find_selected(self) -> Row | None:
        rows = self._alarms.rows()
        return next((row for row in rows if row.key == self._selected), rows[0] if rows else None)

    def _move(self, step: int) -> None:
        keys = [row.key for row in self._alarms.rows()]
        if keys:
            at = keys.index(self._selected) if self._selected in keys else 0
            self._selected = keys[max(0, min(len(keys) - 1, at + step))]

    def _render_list(self, width: int, height: int) -> Group:
        rows, selected = self._alarms.rows(), self._find_selected()
        notices = self._render_notices(width)
        sentence = [] if selected is None else _describe_row(selected)
        lines = wrap(sentence[0], width - 4)[:3] if sentence else []
        number = max(1, min(MAX_ALERTS, height // 5, len(self._alerts)))
        room = height - 2 - (number + 2)
        if notices and room - len(notices) - 2 < _MIN_ROWS:
            notices = notices[:1]
        room -= len(notices) + 2 if notices else 0
        if room - len(lines) - 2 < _MIN_ROWS:
            lines = []
        room -= len(lines) + 2 if lines else 0
        shown = _window(rows, selected, max(1, room))
        parts: list[Text | Panel] = [_line(self._summarize(width), "bold")]
        parts += self._render_rows(shown, selected, width)
        if notices:
            text = Group(*(_line(line) for line in notices))
            parts.append(Panel(text, title="monitoring is impaired", title_align="left", style="bold yellow", width=width))
        if lines and selected is not None:
            parts.append(Panel(Group(*map(_line, lines)), title=_title(selected.series), title_align="left", width=width))
        alerts = [_line(fit(_format_alert(alert), width - 4), _STYLES[alert.severity]) for alert in list(self._alerts)[-number:]]
        title = f"{self._alert_count:,} alert{'' if self._alert_count == 1 else 's'}" if self._alert_count else "no alerts yet"
        parts.append(Panel(Group(*alerts), title=title, title_align="left", height=number + 2, width=width))
        return Group(*parts)

    def _summarize(self, width: int) -> str:
        series = self._alarms.number_series
        text = f"{self._alarms.number_open:,} in alarm, {series:,} series{'' if series < 200 else ' (the last ones)'}"
        help_text = _HELP if self._keyboard.is_read else ""
        left = width - cell_len(text) - cell_len(help_text)
        return f"{text}{' ' * left}{help_text}" if left > 1 else text

    def _render_rows(self, rows: Sequence[Row], selected: Row | None, width: int) -> list[Text]:
        is_wide = width >= _WIDE
        series_width = max(
            6, min(39 if is_wide else 15, max((cell_len(replace_unprintable(row.series)) for row in rows), default=0))
        )
        who_width = max(3, min(24 if is_wide else 15, max((cell_len(replace_unprintable(row.who)) for row in rows), default=0)))
        drawn = BAND_WIDTH + HISTORY_VALUES + 2 if is_wide else 0
        what_width = max(8, width - 2 - 4 - series_width - 11 - who_width - drawn - 4)

        def line(*cells: str) -> str:
            mark, severity, series, since, what, who, drawing = cells
            texts = (fit(series, series_width), fit(since, 11), fit(what, what_width), fit(who, who_width))
            return f"{fit(mark, 2)}{fit(severity, 4)} {' '.join(texts)}{drawing}"

        lines = [_line(line("", "sev", "series", "since", "what", "who", ""), "dim")]
        for row in rows:
            severity = row.severity if row.is_open else None
            leading = row.leading
            drawing = ""
            if is_wide and leading is not None:
                bars = draw_sparkline(row.history.get(leading.feature, ()))
                drawing = f" {fit_right(bars, HISTORY_VALUES)} {fit(draw_band(leading), BAND_WIDTH)}"
            cells = (
                "> " if row is selected else "",
                SEVERITIES[severity] if severity is not None else "anom" if row.is_open else "",
                row.series,
                "" if row.since is None else format_local(row.since, with_year=False),
                _describe_value(row),
                row.who if row.is_open else "",
                drawing,
            )
            style = _STYLES[severity] if severity is not None else "yellow" if row.is_open else ""
            lines.append(_line(line(*cells), f"{style} reverse".strip() if row is selected and self._keyboard.is_read else style))
        return lines

    def _render_notices(self, width: int) -> list[str]:
        lines = [f"since {format_time(notice.since)}  {notice.message}; {notice.hint}" for notice in self._notices]
        if len(lines) > MAX_NOTICES:
            lines = [*lines[: MAX_NOTICES - 1], f"and {len(lines) - MAX_NOTICES + 1} more; the log says which"]
        return [fit(line, width - 4) for line in lines]

    def _render_details(self, row: Row, width: int, height: int) -> Group:
        lines = _format_evidence(row, width - 4)
        room = height - 2
        self._scrolled = max(0, min(self._scrolled, len(lines) - room))
        shown = lines[self._scrolled : self._scrolled + room]
        place = f"{self._scrolled + 1}-{self._scrolled + len(shown)} of {len(lines)}, " if len(shown) < len(lines) else ""
        texts = Group(*(_line(fit(line, width - 4)) for line in shown))
        title = _title(row.series)
        return Group(
            Panel(texts, title=title, title_align="left", subtitle=f"{place}{_HELP_DETAILS}", subtitle_align="right", width=width)
        )


def _window(rows: Sequence[Row], selected: Row | None, number: int) -> Sequence[Row]:
    """Return so many rows with the selected one among them."""
    at = next((index for index, row in enumerate(rows) if row is selected), 0)
    start = max(0, at - number + 1)
    return rows[start : start + number]


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="crop")


def _title(text: str) -> Text:
    return Text(replace_unprintable(text), no_wrap=True, overflow="ellipsis")


def _describe_value(row: Row) -> str:
    """Return what a row shows of its last window: the leading feature and its band, or why there is none."""
    if row.verdict is None:
        return row.what
    if (leading := row.leading) is None:
        return "" if row.verdict.status is VerdictStatus.SCORED else row.verdict.status.lower().replace("_", " ")
    band = f"{format_short(max(0.0, leading.lower), 2)}-{format_short(max(0.0, leading.upper), 2)}"
    return f"{leading.feature} {format_short(leading.observed)} ({band})"


def _describe_row(row: Row) -> list[str]:
    """Return the sentence about a row; empty if there is none."""
    if row.last_alert is not None:
        sentence = format_rule_headline(row.last_alert) if isinstance(row.last_alert, RuleAlert) else row.last_alert.reason
        return [f"{'' if row.is_open else 'over: '}{sentence}"]
    if row.verdict is not None and (row.is_open or row.verdict.reason):
        return [row.verdict.reason or "an episode without an alert"]
    return []


def _format_alert(alert: Alert | RuleAlert) -> str:
    headline = format_rule_headline(alert) if isinstance(alert, RuleAlert) else format_headline(alert)
    return f"{format_local(alert.window_start)}  {alert.phase:6}  {headline}"


def _format_evidence(row: Row, width: int) -> list[str]:
    """Return all that is known of a row: of its last alert, or of its last window."""
    if row.last_alert is not None:
        stored = [read_stored_alert(FORMATS["jsonl"].format(alert)) for alert in row.current_alerts]
        shown = next((each for each in reversed(stored) if each.saved.get("evidence")), None)
        shown = shown or next(each for each in stored if each.id == row.last_alert.id)
        return format_details(shown, StoredEpisode(alerts=[summarize(each) for each in stored]), None, width)
    lines = [*_describe_row(row), ""] if _describe_row(row) else []
    lines = [line for text in lines for line in (wrap(text, width) or [""])]
    if row.verdict is None:
        return lines
    p_value = "" if row.verdict.p_value is None else f", p = {row.verdict.p_value:.1e}"
    lines += [f"window from {format_local(row.verdict.observe_time)}{p_value}", ""]
    name_width = max(8, width - 52)
    for feature in row.verdict.features:
        observed, band = format_quantity(feature.observed), format_band(feature.lower, feature.upper, " - ")
        lines.append(f"{fit(feature.feature, name_width)} {fit_right(observed, 15)} {fit_right(band, 27)} {feature.share:7.0%}")
        if bars := draw_sparkline(row.history.get(feature.feature, ())):
            lines.append(f"  {bars}")
    return lines
