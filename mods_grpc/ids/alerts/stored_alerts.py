"""Reads back what the format `jsonl` wrote: alerts, alerts of rules and notices, also of older versions."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from types import UnionType
from typing import Any, NoReturn, get_args, get_origin

from mods_grpc.client.results import FeatureVerdict, ServedModel
from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import Alert, AlertPhase, Member, Rank, Severity, Trigger
from mods_grpc.ids.alerts.notice import AlertOrNotice, notice_from_json
from mods_grpc.ids.alerts.rule_alert import rule_alert_from_json
from mods_grpc.ids.evidence.evidence import evidence_from_json

MAX_LINE_BYTES = 4 << 20
_YEARS = range(1900, 9000)  # far enough from the ends of what can be moved to another zone


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredAlert:
    """An alert or a notice as a line holds it.

    Attributes:
        id: The id of the line.
        parent_id: Id of the first alert of its episode, or of the notice that it clears; None if it is the first.
        item: The alert or the notice.
        saved: All that the line holds, also what this version does not know.
    """

    id: str
    parent_id: str | None
    item: AlertOrNotice
    saved: dict[str, Any]


def read_stored_alert(line: str) -> StoredAlert:
    """Read one line.

    Raises:
        DataError: It is not a line of the format `jsonl`, or it is damaged.
    """
    if len(line) > MAX_LINE_BYTES:
        raise DataError(f"expected a line of at most {MAX_LINE_BYTES >> 20} MiB")
    try:
        saved = json.loads(line, parse_constant=_refuse_non_finite)
    except (ValueError, RecursionError) as error:
        raise DataError(f"expected JSON: {error}") from error
    if not isinstance(saved, dict):
        raise DataError("expected a JSON object")
    read = _READERS.get(str(saved.get("kind", "")), alert_from_json)
    try:
        item = read(saved)
        alert_id, parent = str(saved["id"]), saved.get("parent", item.parent_id)
        if not _is_of(item, type(item)) or not _is_of(parent, str | None):
            raise TypeError("a value of another type")
        assert item.severity in Severity  # of a score that can be placed
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"not an alert or a notice of the format jsonl: {error}") from error
    return StoredAlert(id=alert_id, parent_id=parent, item=item, saved=saved)


def alert_from_json(saved: dict[str, Any]) -> Alert:
    """Return the alert that `alert_to_json` described; what an older version did not write has its default.

    A number that was not finite comes back as NaN.

    Raises:
        DataError: The evidence is none.
        KeyError, TypeError, ValueError, AttributeError: It is not such a description.
    """
    window, episode = saved["window"], saved["episode"]
    rank, evidence, model = saved.get("rank"), saved.get("evidence"), saved.get("model")
    return Alert(
        sensor=saved["sensor"],
        series=saved["series"],
        phase=AlertPhase(saved["phase"]),
        number=saved.get("number", 0),
        trigger=Trigger(saved.get("trigger", Trigger.FIRST)),
        episode_id=episode["id"],
        window_start=_time(window["start"]),
        window_end=_time(window["end"]),
        episode_start=_time(episode["start"]),
        peak_time=_time(episode["peak_time"]),
        score=_number(saved["score"]),
        p_value=_number(saved["p_value"]),
        peak_score=_number(episode["peak_score"]),
        significance=saved["significance"],
        false_alarms_per_day=saved["false_alarms_per_day"],
        total_false_alarms_per_day=saved.get("total_false_alarms_per_day"),
        reason=saved["reason"],
        features=tuple(map(_feature_from_json, saved["features"])),
        model=None if model is None else ServedModel(name=model["name"], version=model["version"], digest=model["digest"]),
        out_of_distribution=saved["out_of_distribution"],
        anomalous_windows=episode.get("anomalous_windows", 1),
        recent=tuple(map(_number, saved.get("recent", ()))),
        aggregates=tuple((each["feature"], each["aggregate"]) for each in saved["features"] if each.get("aggregate") is not None),
        evidence=None if evidence is None else evidence_from_json(evidence),
        members=tuple(
            Member(series=each["series"], p_value=_number(each["p_value"]), observed=each["observed"])
            for each in saved.get("members", ())
        ),
        member_count=saved.get("member_count", 0),
        rank=None if rank is None else Rank(position=rank["position"], total=rank["total"]),
    )


_READERS: dict[str, Callable[[dict[str, Any]], AlertOrNotice]] = {"rule": rule_alert_from_json, "notice": notice_from_json}


def _feature_from_json(saved: dict[str, Any]) -> FeatureVerdict:
    return FeatureVerdict(
        feature=saved["feature"],
        observed=saved["observed"],
        expected=_number(saved["expected"]),
        lower=_number(saved["lower"]),
        upper=_number(saved["upper"]),
        p_value=saved["p_value"],
        share=_number(saved["share"]),
    )


def _time(saved: str) -> datetime:
    return datetime.fromisoformat(saved).astimezone(UTC)


def _number(saved: Any) -> Any:
    return math.nan if saved is None else saved


def _refuse_non_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _is_of(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type, and what it holds of the types that its dataclass declares."""
    if isinstance(kind, UnionType):
        return any(_is_of(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if kinds[-1] is Ellipsis:
            return all(_is_of(each, kinds[0]) for each in value)
        return len(value) == len(kinds) and all(map(_is_of, value, kinds))
    if kind is float:
        return isinstance(value, float) or (_is_of(value, int) and abs(value) < 2**1000)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool | Enum)
    if kind is datetime:
        return isinstance(value, datetime) and value.tzinfo is not None and value.year in _YEARS
    if isinstance(kind, type) and is_dataclass(kind):
        return isinstance(value, kind) and all(_is_of(getattr(value, each.name), each.type) for each in fields(kind))
    return value is None if kind in (None, type(None)) else isinstance(value, kind)
