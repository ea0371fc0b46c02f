"""Whether a calibration can keep a budget of false alarms."""

from collections.abc import Iterator
from dataclasses import dataclass

from mods_grpc.alarm_rules.adaptation import describe_unproven
from mods_grpc.artifact.manifest import Manifest
from mods_grpc.detection.decision.budget import significance_from_budget
from mods_grpc.detection.scores.detector import Detector


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetReach:
    """Whether a calibration can keep a budget.

    Attributes:
        false_alarms_per_day: The budget, of one series.
        level: p-value that a row must reach to raise an alert.
        smallest_p: Smallest p-value that the calibration can give, but for values far above the training range.
        days: Days of one series in the calibration range.
    """

    false_alarms_per_day: float
    level: float
    smallest_p: float
    days: float

    @classmethod
    def of(cls, manifest: Manifest, false_alarms_per_day: float) -> "BudgetReach":
        """Return that of a model's calibration."""
        calibration, slide = manifest.calibration, manifest.slide_seconds
        return cls(
            false_alarms_per_day=false_alarms_per_day,
            level=significance_from_budget(false_alarms_per_day, slide, calibration),
            smallest_p=Detector.from_manifest(manifest).smallest_p,
            days=manifest.calibration_days,
        )

    def warnings(self) -> Iterator[str]:
        """Yield what a user of the budget should know."""
        budget = f"{self.false_alarms_per_day:.3g} false alarms a day"
        if self.smallest_p > self.level:
            yield (
                f"hardly any alert can come at {budget}: it takes a p-value of {self.level:.2g} or less, and the smallest that "
                f"this calibration can give is {self.smallest_p:.2g}, but for values far above the training range; calibrate on "
                "more rows, or allow more false alarms"
            )
        elif (unproven := describe_unproven(self.false_alarms_per_day, self.days)) is not None:
            yield unproven
