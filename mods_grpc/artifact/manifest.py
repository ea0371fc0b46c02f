"""The manifest: the description of a model version, as frozen dataclasses that read and write strict JSON."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mods_grpc.artifact.calibration import Calibration
from mods_grpc.artifact.strict_json import read_json, write_json
from mods_grpc.errors import ArtifactError

SCHEMA_VERSION = 1
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
DAY_SECONDS = 86_400
MAX_ROWS = 1_000_000  # of a window
MAX_SECONDS = 366 * DAY_SECONDS  # of the aggregation window

FeatureKind = Literal["count", "sum", "mean"]
Scalar = str | int | float | bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDigest:
    """A file of the artifact: its name, size in bytes and SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSpec:
    """A feature of the model; features are listed in the order of the model's inputs.

    `kind` is "count" (whole, not negative), "sum" (not negative) or "mean" (any finite number); counts and sums are scored in
    log1p space. `aggregation` is how the column is computed, such as "count_uid".

    `pane` says what a row of the model's input holds of the feature: the count of the last slide of the row's window alone, of
    which the graph makes the window, or (False) the value of the whole window. Forecasts are of the whole window either way.
    """

    name: str
    unit: str
    protocol: str
    column: str
    kind: FeatureKind
    aggregation: str
    training_minimum: float
    training_maximum: float
    pane: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeRange:
    """A half-open time range `[start, end)`, ISO 8601, and the number of its rows."""

    start: str
    end: str
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A metric of one feature at one step (from 1) on the test range, and that of persistence on the same rows."""

    metric: str
    feature: str
    step: int
    value: float
    persistence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The description of a model version.

    `rows` is the length of the graph's input: sequence_len, plus one with `differencing`. `scaler` has named vectors that the
    graph contains too: they are listed for readers and must not be applied again. `tolerance` is the largest accepted parity
    error per execution provider; see `parity.parity_error`.
    """

    schema_version: int
    name: str
    version: int
    created: str
    files: tuple[FileDigest, ...]
    architecture: str
    hyper_parameters: Mapping[str, Scalar]
    parameters: int
    features: tuple[FeatureSpec, ...]
    window_seconds: int
    slide_seconds: int
    sequence_len: int
    rows: int
    horizon: int
    differencing: bool
    scaler: Mapping[str, tuple[float, ...]]
    training_range: TimeRange
    validation_range: TimeRange
    calibration_range: TimeRange
    test_range: TimeRange | None
    data_digest: str
    seed: int
    libraries: Mapping[str, str]
    metrics: tuple[Metric, ...]
    calibration: Calibration
    false_alarms_per_day: float
    tolerance: Mapping[str, float]

    def __post_init__(self) -> None:
        count, horizon = len(self.features), self.horizon
        self._require(self.schema_version == SCHEMA_VERSION, f"schema_version is {self.schema_version}, not {SCHEMA_VERSION}")
        self._require(NAME_PATTERN.fullmatch(self.name) is not None, f"name does not match {NAME_PATTERN.pattern}")
        self._require(1 <= self.version < 10**9, "version is not in 1..999999999")
        self._require(_is_time(self.created), "created is not an ISO 8601 time with its zone")
        self._require(self.parameters >= 0, "parameters is below 0")
        self._require(count >= 1, "no features")
        self._require(len({feature.name for feature in self.features}) == count, "feature names repeat")
        self._require(all(f.name and f.name.isprintable() for f in self.features), "a feature name is empty or not printable")
        self._require(horizon >= 1, "horizon is below 1")
        self._require(all(1 <= metric.step <= horizon for metric in self.metrics), "the step of a metric is not in 1..horizon")
        self._require(1 <= self.sequence_len <= MAX_ROWS, f"sequence_len is not in 1..{MAX_ROWS}")
        self._require(self.rows == self.sequence_len + self.differencing, "rows is not sequence_len (+ 1 when differencing)")
        self._require(0 < self.slide_seconds <= self.window_seconds, "slide_seconds is not in (0, window_seconds]")
        self._require(self.window_seconds <= MAX_SECONDS, f"window_seconds is above {MAX_SECONDS}")
        self._require(0 < self.false_alarms_per_day < DAY_SECONDS / self.slide_seconds, "false_alarms_per_day is out of range")
        if any(feature.pane for feature in self.features):
            panes, rest = divmod(self.window_seconds, self.slide_seconds)
            self._require(rest == 0 and panes >= 2, "panes, and a window that is not two slides or more without remainder")
            self._require(self.rows >= panes, "panes, and fewer rows than make a window")
            self._require(all(f.kind != "mean" for f in self.features if f.pane), "a mean does not add up from panes")
        for fault in self.calibration.faults(horizon, count, self.rows):
            self._require(False, fault)

    @staticmethod
    def _require(condition: bool, message: str) -> None:
        if not condition:
            raise ArtifactError(f"manifest: {message}")

    @property
    def panes(self) -> int:
        """Rows whose panes add up to a window; 0 if no feature has panes."""
        return self.window_seconds // self.slide_seconds if any(feature.pane for feature in self.features) else 0

    @property
    def calibration_days(self) -> float:
        """Days of one series in the calibration range, all series of a pool together."""
        return self.calibration.samples * self.slide_seconds / DAY_SECONDS

    def file(self, name: str) -> FileDigest:
        """Return the entry of a file.

        Raises:
            ArtifactError: The manifest does not list the file.
        """
        for entry in self.files:
            if entry.name == name:
                return entry
        raise ArtifactError(f"manifest: lists no {name}")

    def to_json(self) -> bytes:
        """Write canonical JSON: sorted keys, shortest float form, a final newline.

        Raises:
            ArtifactError: A number is not finite.
        """
        return write_json(self, "manifest")

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """Read JSON strictly.

        Raises:
            ArtifactError: Not JSON, a key unknown, absent or repeated, a value of another type, a number not finite.
        """
        return read_json(cls, text, "manifest")


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
