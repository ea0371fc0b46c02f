"""Reads what was said of alerts: `feedback.jsonl` in the folder of a watch's state."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mods_grpc.ids.sources.text_file import TextFile

FEEDBACK_FILE = "feedback.jsonl"
FALSE_ALARM, CONFIRMED, WITHDRAWN = "false_alarm", "confirmed", "withdrawn"


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackLine:
    """What was said of an alert; `verdict` is `FALSE_ALARM`, `CONFIRMED` or `WITHDRAWN`."""

    time: datetime
    verdict: str
    note: str = ""
    user: str = ""

    @property
    def is_withdrawn(self) -> bool:
        """Whether what was said before is no longer meant."""
        return self.verdict == WITHDRAWN


def read_feedback(state: Path) -> dict[str, FeedbackLine]:
    """Return what was said last of each alert, by id; empty if there is no feedback. Lines that are damaged are left out.

    Raises:
        OSError: The file is there and can't be read.
    """
    path = state / FEEDBACK_FILE
    if not path.exists():
        return {}
    last: dict[str, FeedbackLine] = {}
    with TextFile(path) as file:
        for line in file:
            try:
                saved = json.loads(line)
                time = datetime.fromisoformat(saved["time"])
                said = FeedbackLine(
                    time=time.replace(tzinfo=time.tzinfo or UTC),
                    verdict=str(saved["verdict"]),
                    note=str(saved.get("note") or ""),
                    user=str(saved.get("user") or ""),
                )
                last[str(saved["id"])] = said
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
    return last
