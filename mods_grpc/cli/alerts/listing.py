"""The list of episodes: a line each, with further alerts under the first, in the width of the terminal."""

from collections.abc import Sequence
from datetime import datetime

from rich.cells import cell_len

from mods_grpc.cli.alerts.history import StoredEpisode
from mods_grpc.cli.alerts.summaries import Summary
from mods_grpc.cli.alerts.terminal_text import fit, fit_right, format_local
from mods_grpc.cli.output import replace_unprintable
from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.alerts.feedback import FeedbackVerdict

MIN_WIDTH = 60
ID_CHARACTERS = 8
MAX_FURTHER = 3
"""Further alerts of an episode that the list shows; `show` shows all."""

SEVERITIES = {Severity.LOW: "low", Severity.MEDIUM: "med", Severity.HIGH: "high", Severity.CRITICAL: "crit"}
_REVIEWS = {FeedbackVerdict.FALSE_ALARM: "f", FeedbackVerdict.CONFIRMED: "c"}
_MAX_NAME, _MAX_WIDE_NAME = 15, 39  # cells of a series or of who made it; 39 are an IPv6 address
_WIDE = 120
_MIN_WHAT = 12


def format_list(episodes: Sequence[StoredEpisode], width: int, now: datetime) -> list[str]:
    """Return the lines of a table, none wider than `width`.

    Args:
        episodes: The episodes, in their order.
        width: Cells of a line; at least `MIN_WIDTH` are used.
        now: The present time; the year is shown if it is another, and in each line if there are several.
    """
    width = max(width, MIN_WIDTH)
    rows = [row for episode in episodes for row in (episode.first, *_shorten(episode))]
    years = {row.start.astimezone().year for row in rows}
    time_width = 11 if len(years) == 1 else 16
    most = _MAX_NAME if width < _WIDE else _MAX_WIDE_NAME
    names = [*(episode.first.series for episode in episodes), *(_mark_further(each) for e in episodes for each in _shorten(e))]
    series_width = _measure(names, 6, most)
    left = width - time_width - 4 - 1 - series_width - ID_CHARACTERS - 6
    who_width = min(_measure([row.who for row in rows], 3, most), max(3, left - _MIN_WHAT))
    left -= who_width
    what_width = _measure([row.what for row in rows], min(20, left), left)

    def line(when: str, severity: str, flag: str, series: str, what: str, who: str, short_id: str) -> str:
        cells = (fit(when, time_width), fit(severity, 4), fit(flag, 1), fit(series, series_width))
        return " ".join([*cells, fit(what, what_width), fit(who, who_width), fit(short_id, ID_CHARACTERS)])

    def row(summary: Summary, severity: Severity, flag: str, series: str) -> str:
        when = format_local(summary.start, with_year=len(years) > 1)
        return line(when, SEVERITIES[severity], flag, series, summary.what, summary.who, summary.id[:ID_CHARACTERS])

    year = f"{min(years)} " if len(years) == 1 and years != {now.astimezone().year} else ""
    lines = [line(f"{year}local" if year else "local time", "sev", "", "series", "what", "who", "id")]
    for episode in episodes:
        lines.append(row(episode.first, episode.severity, _flag(episode), episode.first.series))
        further = _shorten(episode)
        lines += [row(each, each.severity, "", _mark_further(each)) for each in further]
        if (left := len(episode.further) - len(further)) > 0:
            hint = f"mods-grpc alerts show {episode.first.id[:ID_CHARACTERS]}"
            lines.append(fit(f"{fit_right('', time_width)}   and {left:,} more: {hint}", width))
    return [each.rstrip() for each in lines]


def describe_list(episodes: Sequence[StoredEpisode], chosen: int, total: int) -> list[str]:
    """Return what is below the list: how many there are, and what the flags mean.

    Args:
        episodes: The listed ones.
        chosen: How many were asked for, without a limit.
        total: How many there are at all.
    """
    if not episodes:
        return [f"no alerts of {total:,} are such" if total else "no alerts"]
    number_open = sum(episode.is_open for episode in episodes)
    beyond = f" of {chosen:,}" if chosen > len(episodes) else ""
    lines = [f"{len(episodes):,}{beyond} episode{'s' if chosen > 1 else ''}, {number_open:,} open"]
    flags = {_flag(episode) for episode in episodes}
    meanings = {"o": "o open", "f": "f false alarm", "c": "c confirmed"}
    if legend := [meaning for flag, meaning in meanings.items() if flag in flags]:
        lines[0] += f"  ({', '.join(legend)})"
    return lines


def _shorten(episode: StoredEpisode) -> list[Summary]:
    return episode.further[:MAX_FURTHER]


def _mark_further(summary: Summary) -> str:
    return f" + {summary.word}"


def _measure(texts: Sequence[str], least: int, most: int) -> int:
    """Return the cells of the widest of texts, within bounds."""
    return max(least, min(most, max((cell_len(replace_unprintable(text)) for text in texts), default=0)))


def _flag(episode: StoredEpisode) -> str:
    if episode.feedback is not None:
        return _REVIEWS.get(episode.feedback.verdict, "")
    return "o" if episode.is_open else ""
