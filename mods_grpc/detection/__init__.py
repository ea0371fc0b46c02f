"""From residuals to alarms, in numpy alone: `calibrate` learns from ordinary rows, and `Monitor` scores new ones."""

from mods_grpc.alarm_rules.episode_rule import Phase
from mods_grpc.alarm_rules.reason import describe
from mods_grpc.detection.calibration.calibrate import calibrate
from mods_grpc.detection.calibration.reach import BudgetReach
from mods_grpc.detection.decision.alarms import Alarm
from mods_grpc.detection.decision.budget import budget_from_significance, significance_from_budget
from mods_grpc.detection.engine.monitor import Monitor
from mods_grpc.detection.engine.verdicts import Verdict, Verdicts
from mods_grpc.detection.scores.detector import Detector
from mods_grpc.detection.scores.expectation import append_interval
from mods_grpc.detection.scores.scoring_batch import Explanation
from mods_grpc.detection.state.forecast_buffer import Forecaster
from mods_grpc.detection.state.grid_alignment import Outcome
from mods_grpc.detection.state.pane_sums import PaneSums
from mods_grpc.detection.state.series_table import NO_TIME, SeriesTable

__all__ = [
    "NO_TIME",
    "Alarm",
    "BudgetReach",
    "Detector",
    "Explanation",
    "Forecaster",
    "Monitor",
    "Outcome",
    "PaneSums",
    "Phase",
    "SeriesTable",
    "Verdict",
    "Verdicts",
    "append_interval",
    "budget_from_significance",
    "calibrate",
    "describe",
    "significance_from_budget",
]
