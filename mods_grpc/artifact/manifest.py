"""The manifest: everything the server knows of a model, as frozen dataclasses that read and write strict JSON."""

import dataclasses
import json
import math
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mods_grpc.errors import ArtifactError

SCHEMA_VERSION = 1
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
DAY_SECONDS = 86_400

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
    """A feature in the model's order.

    `kind` is "count" (whole, not negative), "sum" (not negative) or "mean" (any finite number); counts and sums are
    scored in log1p space. `aggregation` says how the column is made, for example "count_uid".
    """

    name: str
    unit: str
    protocol: str
    column: str
    kind: FeatureKind
    aggregation: str
    training_minimum: float
    training_maximum: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeRange:
    """A half-open range of time `<start,end)`, ISO 8601, and how many rows it holds."""

    start: str
    end: str
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """A generalised Pareto tail above `threshold`: P(score > s) = probability * (1 + shape (s - threshold) / scale)^(-1/shape).

    A shape of 0 means the exponential limit. The shape is never negative, so no score has probability 0.
    """

    threshold: float
    probability: float
    shape: float
    scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreCurve:
    """A sorted sample of nonconformity scores in compact form.

    `samples` is the size of the sample. `scores` ascends; `counts[i]` is the number of scores of the sample above
    `scores[i]`. `tail` takes over above its threshold; None where the sample is too small to fit one.
    """

    samples: int
    scores: tuple[float, ...]
    counts: tuple[int, ...]
    tail: Tail | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What turns residuals into p-values.

    Attributes:
        samples: Rows of the calibration range that were scored.
        scales: Robust scale of the residuals, `[horizon][feature]`, in the space they are scored in; above 0.
        curves: Absolute scaled residuals, `[horizon][feature]`.
        fused: Fused evidence of all features at step 1.
        holdoff_rows: Rows without an anomaly that end an episode.
    """

    samples: int
    scales: tuple[tuple[float, ...], ...]
    curves: tuple[tuple[ScoreCurve, ...], ...]
    fused: ScoreCurve
    holdoff_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A metric of one feature at one step (from 1) on the test range, beside persistence on the same rows."""

    metric: str
    feature: str
    step: int
    value: float
    persistence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything the server knows of a model version.

    `rows` is what the graph takes: sequence_len, and one more when `differencing`. `scaler` holds named vectors of
    numbers that the graph contains too; they are here to be read, not to be applied. `tolerance` is the largest parity
    error relative to the largest absolute value of the output, per execution provider.
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
        calibration = self.calibration
        self._require(self.schema_version == SCHEMA_VERSION, f"schema_version is {self.schema_version}, not {SCHEMA_VERSION}")
        self._require(NAME_PATTERN.fullmatch(self.name) is not None, f"name does not match {NAME_PATTERN.pattern}")
        self._require(self.version >= 1, "version is below 1")
        self._require(count >= 1, "no features")
        self._require(len({feature.name for feature in self.features}) == count, "feature names repeat")
        self._require(horizon >= 1, "horizon is below 1")
        self._require(self.sequence_len >= 1, "sequence_len is below 1")
        self._require(self.rows == self.sequence_len + self.differencing, "rows is not sequence_len (+ 1 when differencing)")
        self._require(0 < self.slide_seconds <= self.window_seconds, "slide_seconds is not in (0, window_seconds]")
        self._require(0 < self.false_alarms_per_day < DAY_SECONDS / self.slide_seconds, "false_alarms_per_day is out of range")
        for table, what in ((calibration.scales, "scales"), (calibration.curves, "curves")):
            fits = len(table) == horizon and all(len(row) == count for row in table)
            self._require(fits, f"calibration {what} are not (horizon, features)")
        self._require(all(s > 0 for row in calibration.scales for s in row), "a calibration scale is not positive")
        for curve in (calibration.fused, *(curve for row in calibration.curves for curve in row)):
            size = len(curve.scores)
            self._require(size >= 1 and len(curve.counts) == size, "a score curve is empty or ragged")
            self._require(list(curve.scores) == sorted(curve.scores), "a score curve does not ascend")
            self._require(all(0 <= c < curve.samples for c in curve.counts), "a count of a score curve is out of range")
            if (tail := curve.tail) is not None:
                self._require(tail.scale > 0 and tail.shape >= 0 and 0 < tail.probability < 1, "a tail is out of range")

    @staticmethod
    def _require(condition: bool, message: str) -> None:
        if not condition:
            raise ArtifactError(f"manifest: {message}")

    def file(self, name: str) -> FileDigest:
        """Return the entry of a file.

        Raises:
            ArtifactError: The manifest lists no such file.
        """
        for entry in self.files:
            if entry.name == name:
                return entry
        raise ArtifactError(f"manifest: lists no {name}")

    def to_json(self) -> bytes:
        """Write canonical JSON: sorted keys, shortest float form, a final newline."""
        return (json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """Read JSON strictly.

        Raises:
            ArtifactError: Not JSON, a key unknown or absent, a value of another type, a number not finite.
        """
        try:
            tree = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ArtifactError("manifest: not valid JSON") from error
        result = _read(cls, tree, "manifest")
        assert isinstance(result, cls)
        return result


def _refuse_constant(name: str) -> float:
    raise ArtifactError(f"manifest: {name} is not a finite number")


def _read(expected: Any, tree: Any, where: str) -> Any:
    """Turn a JSON tree into `expected`, a dataclass, tuple, mapping, literal, optional or scalar type."""
    origin = get_origin(expected)
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        _expect(tree, dict, where)
        hints = get_type_hints(expected)
        names = {field.name for field in fields(expected)}
        if tree.keys() != names:
            raise ArtifactError(f"{where}: unknown keys {sorted(tree.keys() - names)}, absent keys {sorted(names - tree.keys())}")
        return expected(**{name: _read(hints[name], tree[name], f"{where}.{name}") for name in names})
    if origin is tuple:
        _expect(tree, list, where)
        item = get_args(expected)[0]
        return tuple(_read(item, value, f"{where}[{index}]") for index, value in enumerate(tree))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        _expect(tree, dict, where)
        item = get_args(expected)[1]
        return types.MappingProxyType({key: _read(item, value, f"{where}.{key}") for key, value in tree.items()})
    if origin is Literal:
        if tree not in get_args(expected):
            raise ArtifactError(f"{where}: expected one of {', '.join(get_args(expected))}")
        return tree
    if origin in (Union, types.UnionType):
        return _read_union(get_args(expected), tree, where)
    if expected is float:
        _expect(tree, (int, float), where)
        try:
            number = float(tree)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ArtifactError(f"{where}: not a finite number")
        return number
    _expect(tree, expected, where)
    return tree


def _read_union(members: tuple[Any, ...], tree: Any, where: str) -> Any:
    if tree is None and types.NoneType in members:
        return None
    rest = [member for member in members if member is not types.NoneType]
    if len(rest) == 1:
        return _read(rest[0], tree, where)
    if type(tree) not in rest or (isinstance(tree, float) and not math.isfinite(tree)):
        raise ArtifactError(f"{where}: expected text, a finite number or a truth value")
    return tree


def _expect(tree: Any, kind: Any, where: str) -> None:
    # bool is an int to isinstance, but not to a reader of the manifest
    if not isinstance(tree, kind) or (isinstance(tree, bool) and kind is not bool):
        name = kind.__name__ if isinstance(kind, type) else "number"
        raise ArtifactError(f"{where}: expected {name}, found {type(tree).__name__}")
