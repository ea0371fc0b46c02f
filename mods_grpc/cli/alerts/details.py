"""One alert in full: what was seen, who made it, what to search for, how the episode went on, and what to do next."""

import math
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mods_grpc.cli.alerts.history import StoredEpisode
from mods_grpc.cli.alerts.listing import ID_CHARACTERS, SEVERITIES
from mods_grpc.cli.alerts.summaries import name_dimension
from mods_grpc.cli.alerts.terminal_text import fit, fit_right, format_band, format_local, format_quantity, label, wrap
from mods_grpc.cli.output import replace_unprintable
from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.notice import Notice
from mods_grpc.ids.alerts.rule_alert import RuleAlert
from mods_grpc.ids.alerts.stored_alerts import StoredAlert
from mods_grpc.ids.evidence.evidence import DimensionEvidence, Evidence, FeatureEvidence

MAX_WIDTH = 100
MAX_MEMBERS = 20


def format_details(stored: StoredAlert, episode: StoredEpisode, state: Path | None, width: int) -> list[str]:
    """Return the lines of an alert or a notice; none is wider than `width` but those to paste.

    Args:
        stored: The alert or notice.
        episode: The episode that it belongs to.
        state: The folder of the watch's state that commands must name; None if they need not.
        width: Cells of a line; at most `MAX_WIDTH` are used.
    """
    width = min(width, MAX_WIDTH)
    item = stored.item
    status = "open" if episode.is_open else "over"
    lines = wrap(f"{item.kind} {stored.id}", width)
    lines += [*wrap(f"{item.severity.name.lower()}, {status}, sensor {item.sensor}", width), ""]
    lines += [*wrap(_describe(stored), width), ""]
    if isinstance(item, Alert):
        lines += _format_alert(item, width)
    elif isinstance(item, RuleAlert):
        lines += _format_rule_alert(item, width)
    else:
        lines += [*label("what to do", item.hint, width), *_format_times("since", item.since, item.time, width)]
    evidence = stored.saved.get("evidence")
    lines += _format_filters([stored.saved.get("filters"), evidence.get("filters") if isinstance(evidence, dict) else None])
    techniques = stored.saved.get("techniques") or (evidence.get("techniques") if isinstance(evidence, dict) else None)
    if named := list(map(_name_technique, techniques if isinstance(techniques, list) else [])):
        lines += ["", *label("ATT&CK", f"possible: {'; '.join(named)}", width)]
    lines += ["", *_format_episode(episode, width), *_format_feedback(stored, episode, state, width)]
    return [replace_unprintable(line).rstrip() for line in lines]


def _describe(stored: StoredAlert) -> str:
    item = stored.item
    if isinstance(item, Notice):
        return item.message
    return str(stored.saved.get("reason", "")) if isinstance(item, RuleAlert) else f"{item.series}: {item.reason}"


def _format_alert(alert: Alert, width: int) -> list[str]:
    lines = _format_times("window", alert.window_start, alert.window_end, width)
    chance = f"p = {alert.p_value:.1e}; an alert is raised at {alert.significance:.1e} or below"
    budget = f"a budget of {alert.false_alarms_per_day:g} false alarm{'s' * (alert.false_alarms_per_day != 1)} per series and day"
    lines += label("level", f"{chance}, which is {budget}" if alert.false_alarms_per_day else chance, width)
    if alert.rank is not None:
        lines += label("rank", f"{alert.rank.position:,} of {alert.rank.total:,} alerts of the day before", width)
    if alert.out_of_distribution:
        lines += label("range", "a value is far outside of what the model was trained on", width)
    if alert.model is not None:
        lines += label("model", f"{alert.model.name} {alert.model.version} ({alert.model.digest[:12]})", width)
    lines += _format_features(alert, width)
    if alert.members:
        lines += ["", f"seen in {alert.member_count:,} series"]
        lines += [
            f"  {fit(each.series, width - 24)} {fit_right(format_quantity(each.observed), 10)} p={each.p_value:.0e}"
            for each in alert.members[:MAX_MEMBERS]
        ]
        if (left := alert.member_count - MAX_MEMBERS) > 0:
            lines.append(f"  and {left:,} more")
    return lines + (_format_evidence(alert.evidence, width) if alert.evidence is not None else [])


def _format_features(alert: Alert, width: int) -> list[str]:
    name_width = max(10, width - 52)
    lines = [
        "",
        f"{fit('feature', name_width)} {fit_right('observed', 15)} {fit_right('forecast band', 27)} {fit_right('share', 7)}",
    ]
    for feature in sorted(alert.features, key=lambda each: -each.share):
        band = format_band(feature.lower, feature.upper, " - ")
        share = f"{feature.share:.0%}" if math.isfinite(feature.share) else ""
        cells = (fit_right(format_quantity(feature.observed), 15), fit_right(band, 27), fit_right(share, 7))
        lines.append(" ".join([fit(feature.feature, name_width), *cells]))
    if alert.recent:
        lines += label("course", " ".join(format_quantity(value) for value in alert.recent), width)
    return lines


def _format_evidence(evidence: Evidence, width: int) -> list[str]:
    lines = []
    for feature in evidence.features:
        if not feature.total and not feature.before:
            continue
        dimensions = [each for each in feature.dimensions if each.entities]
        lines += ["", *wrap(_describe_feature(feature, has_entities=bool(dimensions)), width)]
        for dimension in dimensions:
            lines += _format_dimension(dimension, width)
    if evidence.before_start is not None and evidence.before_end is not None:
        span = f"{_format_utc(evidence.before_start)} to {_format_utc(evidence.before_end)} UTC, scaled to one window"
        lines += label("before is", span, width)
    if evidence.uids:
        lines += ["", *label("uids", " ".join(evidence.uids), width)]
    if evidence.community_ids:
        lines += label("community", " ".join(evidence.community_ids), width)
    return lines


def _describe_feature(feature: FeatureEvidence, *, has_entities: bool) -> str:
    kind = "; what is missing:" if feature.is_fall else "; who made it:"
    total, before = format_quantity(feature.total), format_quantity(feature.before)
    text = f"{feature.feature} ({feature.column} of {feature.protocol}): {total} {feature.unit}, before {before}"
    return text + kind if has_entities else text


def _format_dimension(dimension: DimensionEvidence, width: int) -> list[str]:
    value_width = max(10, width - 40)
    number = (
        f"{dimension.distinct:,}{'+' if dimension.is_capped else ''} {name_dimension(dimension.dimension, dimension.distinct)}"
    )
    if 1 < dimension.covering < dimension.distinct:
        number += f", {dimension.covering:,} have {format_quantity(dimension.covered)}"
    if dimension.max_error:
        number += f", counts up to {format_quantity(dimension.max_error)} too low"
    lines = [f"  {fit(number, value_width)} {fit_right('count', 12)} {fit_right('before', 12)} {fit_right('share', 7)}"]
    for entity in dimension.entities:
        cells = (fit_right(format_quantity(entity.count), 12), fit_right(format_quantity(entity.before), 12))
        lines.append(f"    {fit(entity.value, value_width - 2)} {' '.join(cells)} {fit_right(f'{entity.share:.0%}', 7)}")
    return lines


def _format_rule_alert(alert: RuleAlert, width: int) -> list[str]:
    lines = _format_times("window", alert.window_start, alert.window_end, width)
    count = f"{format_quantity(alert.count)}{' or more' if alert.is_capped else ''} {alert.counted}"
    lines += label("rule", f"{alert.rule}: {count}, threshold {format_quantity(alert.threshold)} ({alert.source})", width)
    lines += label("source", alert.source_ip, width)
    port = "" if alert.destination_port is None else f" port {alert.destination_port}"
    if alert.destination_ip or port:
        lines += label("target", f"{alert.destination_ip or 'several'}{port}", width)
    if alert.top:
        lines += ["", "counted most"]
        lines += [f"  {fit(name, width - 16)} {fit_right(format_quantity(number), 12)}" for name, number in alert.top]
    for name, values in (("such as", alert.examples), ("uids", alert.uids)):
        if values:
            lines += label(name, " ".join(values), width)
    return lines


def _format_times(name: str, start: datetime, end: datetime, width: int) -> list[str]:
    local_end = end.astimezone()
    local = f"{start.astimezone():%Y-%m-%d %H:%M:%S} to {local_end:%Y-%m-%d %H:%M:%S} {local_end.tzname() or ''}"
    return [
        *label(name, f"{_format_utc(start)} to {_format_utc(end)} UTC", width),
        *(label("", local, width) if local_end.utcoffset() else []),
    ]


def _format_utc(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _format_filters(saved: Sequence[Any]) -> list[str]:
    """Return ready filters, each on one line, however long: a terminal that wraps it still copies it whole."""
    lines = []
    for filters in saved:
        if isinstance(filters, dict):
            lines += [f"  {name}: {_join_values(text)}" for name, text in filters.items() if text]
        elif isinstance(filters, list):
            lines += [f"  {_join_values(text)}" for text in filters if text]
    return ["", "to look at the records:", *lines] if lines else []


def _name_technique(saved: Any) -> str:
    """Return id and name of a technique, without its certainty, which is the same of all."""
    return _join_values({key: saved[key] for key in ("id", "name") if key in saved} if isinstance(saved, dict) else saved)


def _join_values(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(each) for each in value.values() if isinstance(each, str | int | float))
    return " ".join(map(_join_values, value)) if isinstance(value, list) else str(value)


def _format_episode(episode: StoredEpisode, width: int) -> list[str]:
    lines = ["episode"]
    text_width = width - 16 - 4 - 12 - ID_CHARACTERS - 6
    for each in episode.alerts:
        what = "" if each.is_end else f"{each.what} {each.who}"
        when = format_local(each.end if each.is_end else each.start)
        cells = (fit(when, 16), fit(SEVERITIES[each.severity], 4), fit(each.word, 12), fit(what, text_width))
        lines.append("  " + " ".join([*cells, each.id[:ID_CHARACTERS]]))
    if episode.first.parent_id is not None:
        lines += wrap("  its first alert is no longer stored", width)
    return lines


def _format_feedback(stored: StoredAlert, episode: StoredEpisode, state: Path | None, width: int) -> list[str]:
    if isinstance(stored.item, Notice):
        return []
    lines = []
    if (said := episode.feedback) is not None:
        by = " ".join(filter(None, (f"by {said.user}" if said.user else "", f"at {format_local(said.time)}")))
        text = f"{said.verdict.replace('_', ' ')} {by}{': ' if said.note else ''}{said.note}"
        lines += ["", *label("feedback", text, width)]
    where = "" if state is None else f" --state {shlex.quote(str(state))}"
    lines += ["", "next"]
    lines += [f"  mods-grpc feedback {stored.id[:ID_CHARACTERS]}{where} {flag}" for flag in ("--false-alarm", "--confirmed")]
    return lines
