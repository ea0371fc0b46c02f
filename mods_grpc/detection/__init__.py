"""From residual to alarm: pure numpy, no I/O, no gRPC. `Monitor` is the door; `calibrate` makes what it needs."""

from mods_grpc.detection.ahead import Forecaster
from mods_grpc.detection.alarms import Alarm
from mods_grpc.detection.calibration import calibrate
from mods_grpc.detection.detector import Detector, significance_from_budget
from mods_grpc.detection.episodes import Phase
from mods_grpc.detection.expectation import side_by_side
from mods_grpc.detection.judgement import Explanation
from mods_grpc.detection.monitor import Monitor
from mods_grpc.detection.reason import describe
from mods_grpc.detection.series import NO_TIME, SeriesTable
from mods_grpc.detection.timeline import Outcome
from mods_grpc.detection.verdicts import Verdict, Verdicts

__all__ = [
    "NO_TIME",
    "Alarm",
    "Detector",
    "Explanation",
    "Forecaster",
    "Monitor",
    "Outcome",
    "Phase",
    "SeriesTable",
    "Verdict",
    "Verdicts",
    "calibrate",
    "describe",
    "side_by_side",
    "significance_from_budget",
]
