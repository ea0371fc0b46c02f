"""Alerts as values for JSON that they can be restored from, to the last bit; for checkpoints, not for readers."""

from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from mods_grpc.client.results import FeatureVerdict, ServedModel
from mods_grpc.ids.alerts.alert import Alert, AlertPhase, Member, Rank, Trigger
from mods_grpc.ids.evidence.evidence import evidence_from_json, evidence_to_json

_TIMES = ("window_start", "window_end", "episode_start", "peak_time")


def save_alert(alert: Alert) -> dict[str, Any]:
    """Return an alert as values for JSON; its numbers must be finite."""
    saved = {each.name: getattr(alert, each.name) for each in fields(alert)}
    return saved | {
        **{name: saved[name].isoformat() for name in _TIMES},
        "phase": str(alert.phase),
        "trigger": str(alert.trigger),
        "features": [asdict(feature) for feature in alert.features],
        "model": None if alert.model is None else asdict(alert.model),
        "recent": list(alert.recent),
        "evidence": None if alert.evidence is None else evidence_to_json(alert.evidence),
        "members": [asdict(member) for member in alert.members],
        "rank": None if alert.rank is None else asdict(alert.rank),
    }


def restore_alert(saved: dict[str, Any]) -> Alert:
    """Return the alert that `save_alert` described.

    Raises:
        DataError: Its evidence is not such a description.
    """
    return Alert(
        **saved
        | {name: datetime.fromisoformat(saved[name]) for name in _TIMES}
        | {
            "phase": AlertPhase(saved["phase"]),
            "trigger": Trigger(saved["trigger"]),
            "features": tuple(FeatureVerdict(**feature) for feature in saved["features"]),
            "model": None if saved["model"] is None else ServedModel(**saved["model"]),
            "recent": tuple(saved["recent"]),
            "evidence": None if saved["evidence"] is None else evidence_from_json(saved["evidence"]),
            "members": tuple(Member(**member) for member in saved["members"]),
            "rank": None if saved["rank"] is None else Rank(**saved["rank"]),
        }
    )
