"""From residual to alarm: pure numpy, no I/O, no gRPC. `Monitor` is the door; `calibrate` makes what it needs."""

from mods_grpc.detection.calibration import calibrate
from mods_grpc.detection.detector import Detector, significance_from_budget
from mods_grpc.detection.episodes import Phase
from mods_grpc.detection.monitor import Forecaster, Monitor
from mods_grpc.detection.reason import describe
from mods_grpc.detection.series import NO_TIME, SeriesTable
from mods_grpc.detection.timeline import Outcome
from mods_grpc.detection.verdicts import Verdicts

__all__ = [
    "NO_TIME",
    "Detector",
    "Forecaster",
    "Monitor",
    "Outcome",
    "Phase",
    "SeriesTable",
    "Verdicts",
    "calibrate",
    "describe",
    "significance_from_budget",
]
