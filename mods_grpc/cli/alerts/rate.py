"""How many of the alerts were false alarms, as far as analysts said, beside the budget: the same as in the watch's account."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mods_grpc.cli.alerts.history import StoredEpisode
from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.feedback import Feedback
from mods_grpc.ids.alerts.feedback_summary import AlertDays, FeedbackSummary, RaisedAlert, summarise
from mods_grpc.ids.watch.checkpoint import read_checkpoint


def summarise_episodes(
    episodes: Sequence[StoredEpisode], feedback: Iterable[Feedback], state: Path | None
) -> FeedbackSummary | None:
    """Return how many alerts were false alarms in the last days before the newest one; None if there are none.

    Args:
        episodes: All that are stored.
        feedback: What counts, of any alerts.
        state: The folder of the watch that raised them: its checkpoint says since when it watches, and what the budget is. None
            if they are of files, which don't say.
    """
    if state is not None and (summary := _summarise_checkpoint(state, feedback)) is not None:
        return summary
    alerts = [
        RaisedAlert(id=each.id, first_id=each.parent_id or each.id, time=each.end)
        for episode in episodes
        for each in episode.alerts
        if each.kind == "anomaly" and not each.is_end
    ]
    if not alerts:
        return None
    return summarise(alerts, feedback, None, now=max(alert.time for alert in alerts))


def _summarise_checkpoint(state: Path, feedback: Iterable[Feedback]) -> FeedbackSummary | None:
    days = AlertDays()
    try:
        saved = (read_checkpoint(state) or {})["watch"]["feedback"]
        days.restore(saved["alerts"])
        budget = None if saved["budget"] is None else float(saved["budget"])
    except (DataError, KeyError, TypeError, ValueError):  # none yet, or of another version, or of no use: the alerts do
        return None
    return days.summarise(feedback, budget)
