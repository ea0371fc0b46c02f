"""Options of scoring, and what follows of them for the levels at which series alarm."""

from dataclasses import dataclass

from mods_grpc.alarm_rules.adaptation import Adaptation
from mods_grpc.alarm_rules.extent import ExtentRule, holdoff
from mods_grpc.alarm_rules.total_budget import TotalBudget
from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.client import ModelInfo
from mods_grpc.client.codec.encode import Explain
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.ids.alerts.episodes import MAX_EPISODE_SECONDS
from mods_grpc.ids.watch.scoring.alarm_levels import AlarmLevels


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringOptions:
    """How windows are scored.

    Attributes:
        model, version: Name and version of the model; version None for the newest.
        namespace: Namespace of the series on the server, the same for all runs that share a checkpoint.
        false_alarms_per_day, significance: The budget; both None for the model's default.
        total_false_alarms_per_day: The budget of all series together, in place of both.
        impute_rows: Number of missing windows that are imputed with the forecast.
        explain: "anomalies", or "all" for a live view.
        fixed_level: Whether the levels of the series do not adapt. They never adapt if a significance is given.
        own_envelope: Whether each series is judged by what it usually reaches itself, if the model has what that takes.
        max_episode_seconds: Longest time of an episode.
    """

    model: str
    version: int | None = None
    namespace: str
    false_alarms_per_day: float | None = None
    significance: float | None = None
    total_false_alarms_per_day: float | None = None
    impute_rows: int = 6
    explain: Explain = "anomalies"
    fixed_level: bool = False
    own_envelope: bool = False
    max_episode_seconds: float = MAX_EPISODE_SECONDS


def make_levels(model: ModelInfo, options: ScoringOptions, extents: ExtentRule) -> AlarmLevels | None:
    """Return the levels of series that adapt; None if they do not."""
    if options.fixed_level or options.significance is not None:
        return None
    budget = options.false_alarms_per_day
    rate = (model.default_false_alarms_per_day if budget is None else budget) * model.slide_seconds / DAY_SECONDS
    return AlarmLevels(Adaptation(rate), extents)


def make_total(model: ModelInfo, options: ScoringOptions) -> TotalBudget | None:
    """Return what keeps the budget of all series together; None if there is none."""
    if options.total_false_alarms_per_day is None:
        return None
    held_off = round(holdoff(model.window_seconds, model.slide_seconds).total_seconds() * NANOS_PER_SECOND)
    return TotalBudget(options.total_false_alarms_per_day, model.slide_seconds, held_off)
