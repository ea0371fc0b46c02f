"""Builds what a watch follows besides the logs: feedback on its alerts, and its file of suppression."""

import argparse
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from mods_grpc.cli.watch_wiring import make_suppression
from mods_grpc.client import ModelInfo
from mods_grpc.ids.alerts.mutes.suppression import Suppression
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.watch.review import FeedbackTracker, RulesFile

logger = logging.getLogger(__name__)

UNUSED_AFTER = timedelta(days=7)
"""A rule that muted nothing for so long is named at the start."""


def make_feedback(arguments: argparse.Namespace, pipeline: WatchPipeline) -> FeedbackTracker:
    """Make what takes up feedback in the state folder; for a dry run, which has none, what counts alerts alone."""
    folder = None if arguments.dry_run else arguments.state
    return FeedbackTracker(folder, pipeline.forgive, lambda: pipeline.budget_per_day)


def make_review(arguments: argparse.Namespace, model: ModelInfo, pipeline: WatchPipeline) -> Callable[[], None]:
    """Return a function that takes up feedback and changed rules, to be called often; say which rules never muted anything."""
    suppression = pipeline.suppression
    _tell_of_unused(suppression)
    warn_of_other_features(arguments, model, suppression)
    rules = None
    if arguments.suppress is not None:
        rules = RulesFile(arguments.suppress, lambda: make_suppression(arguments), pipeline.set_suppression)

    def follow() -> None:
        if pipeline.feedback is not None:
            pipeline.feedback.poll()
        if rules is not None:
            rules.poll()

    return follow


def warn_of_other_features(arguments: argparse.Namespace, model: ModelInfo, suppression: Suppression) -> None:
    """Log patterns of features in mute rules that mean no feature of the model."""
    for mute in suppression.mutes:
        for pattern in mute.features:
            if not any(fnmatchcase(name, pattern) for name in model.feature_names):
                hint = f"the features of {model.name} are {', '.join(model.feature_names)}"
                logger.warning(
                    "pattern_matches_nothing", extra={"file": str(arguments.suppress), "pattern": pattern, "hint": hint}
                )


def _tell_of_unused(suppression: Suppression) -> None:
    now = datetime.now(UTC)
    expired = {mute.name for mute in suppression.mutes if mute.is_expired(now)}
    expired |= {window.title for window in suppression.maintenance if window.repeat is None and window.end < now}
    for name in suppression.names:
        since = suppression.hits.since(name)
        if since is not None and now - since >= UNUSED_AFTER and name not in expired:
            logger.info("suppression_unused", extra={"rule": name, "since": since.strftime("%Y-%m-%dT%H:%M:%SZ")})
