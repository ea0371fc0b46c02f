"""The open causes of alerts and their episodes, and both as values for JSON."""

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from mods_grpc.ids.alerts.alert import Alert, Member, Severity, alert_to_json
from mods_grpc.ids.alerts.stored_alerts import alert_from_json

EpisodeKey = tuple[str, str]  # a series and the id of its episode


@dataclass(kw_only=True, slots=True)
class OpenEpisode:
    """An open episode that raised an alert, of its own or within another.

    `number` is the number of the last alert raised of its own, if `is_raised`. `cause` is the one that it joined last, and `end`
    its end, if that waits for those of other series.
    """

    cause: int
    last: datetime
    is_raised: bool
    number: int = 0
    is_over: bool = False
    end: Alert | None = None


@dataclass(kw_only=True, slots=True)
class SeenMember:
    """A series of a cause, with the severity and the score of the alert with which it joined."""

    member: Member
    severity: Severity
    score: float


@dataclass(kw_only=True, slots=True)
class Cause:
    """A cause, which may have one series.

    `alert` is the last alert of the series that stands for it, with the evidence of all and the worst score. `joined` is the
    number of alerts in it, of which a series has several if its episode ended and another began, or left and came back;
    `reported` is what it was when the last one was raised. `weak_keys` are what a cause of one series could have in common with
    others, if enough are alike.
    """

    number: int
    keys: list[str]
    lead: EpisodeKey
    alert: Alert
    last: datetime
    members: dict[str, SeenMember] = field(default_factory=dict)
    episodes: set[EpisodeKey] = field(default_factory=set)
    joined: int = 0
    reported: int = 0
    weak_keys: list[str] = field(default_factory=list)


def cause_to_json(cause: Cause) -> dict[str, Any]:
    """Return a cause as values for JSON."""
    return {
        "number": cause.number,
        "keys": cause.keys,
        "lead": list(cause.lead),
        "alert": alert_to_json(cause.alert),
        "last": cause.last.isoformat(),
        "members": [
            asdict(seen.member) | {"severity": int(seen.severity), "score": seen.score} for seen in cause.members.values()
        ],
        "episodes": sorted(list(key) for key in cause.episodes),
        "joined": cause.joined,
        "reported": cause.reported,
        "weak_keys": cause.weak_keys,
    }


def cause_from_json(saved: dict[str, Any]) -> Cause:
    """Return what `cause_to_json` described."""
    members = [
        SeenMember(
            member=Member(series=each["series"], p_value=each["p_value"], observed=each["observed"]),
            severity=Severity(each["severity"]),
            score=each["score"],
        )
        for each in saved["members"]
    ]
    return Cause(
        number=saved["number"],
        keys=list(saved["keys"]),
        lead=_key_from_json(saved["lead"]),
        alert=alert_from_json(saved["alert"]),
        last=datetime.fromisoformat(saved["last"]),
        members={seen.member.series: seen for seen in members},
        episodes=set(map(_key_from_json, saved["episodes"])),
        joined=saved["joined"],
        reported=saved["reported"],
        weak_keys=list(saved.get("weak_keys", ())),  # of a checkpoint before there were any
    )


def _key_from_json(saved: list[str]) -> EpisodeKey:
    series, episode_id = saved
    return series, episode_id


def episode_to_json(episode: OpenEpisode) -> dict[str, Any]:
    """Return an episode as values for JSON."""
    end = None if episode.end is None else alert_to_json(episode.end)
    return asdict(replace(episode, end=None)) | {"last": episode.last.isoformat(), "end": end}


def episode_from_json(saved: dict[str, Any]) -> OpenEpisode:
    """Return what `episode_to_json` described."""
    end = None if saved["end"] is None else alert_from_json(saved["end"])
    return OpenEpisode(**saved | {"last": datetime.fromisoformat(saved["last"]), "end": end})
