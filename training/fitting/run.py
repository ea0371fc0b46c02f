"""A run directory: `run.json` (what was done, with which data and how it went) and `weights.npz`. Data, never code."""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mods_grpc.artifact import TimeRange
from mods_grpc.errors import DataError
from training.data.feature import Feature
from training.data.series import DataReport
from training.data.source import SourceConfig
from training.network.config import FitConfig, ModelConfig
from training.network.scaler import Scaler

RUN_FILE = "run.json"
WEIGHTS_FILE = "weights.npz"
RUN_SCHEMA = 1

_LIBRARIES = ("keras", "numpy", "onnx", "onnxruntime", "pandas", "tensorflow", "tensorflow-cpu", "tf2onnx")

SCALER_VECTORS = ("input_mean", "input_scale", "output_mean", "output_scale", "level_mean", "level_scale", "highest")

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What is known of a fit, apart from its weights.

    Attributes:
        created: When the run ended, ISO 8601, UTC.
        command: The command line that makes it again, without the interpreter.
        model, fit, source: The options.
        features: The features in order, with `minimum` and `maximum` over the training rows beside them.
        window_seconds, slide_seconds: Of the data.
        ranges: Rows of each part, by its name in `windows.PARTS`.
        samples: Windows without missing values, by part.
        data_digest: Digest of the data that was read, see `series.Series`.
        report: What was found in the data and repaired.
        scaler: Preprocessing, fitted on the training windows.
        naive_error: MAE of no change over one step on the training rows, by feature: the unit of MASE.
        history: Losses by epoch. best_epoch: From 1. interrupted: Whether the user ended the fit.
        libraries: Versions.
    """

    created: str
    command: str
    model: ModelConfig
    fit: FitConfig
    source: SourceConfig
    features: tuple[Feature, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    window_seconds: int
    slide_seconds: int
    ranges: Mapping[str, TimeRange]
    samples: Mapping[str, int]
    data_digest: str
    report: DataReport
    scaler: Scaler
    naive_error: tuple[float, ...]
    history: Mapping[str, tuple[float, ...]]
    best_epoch: int
    interrupted: bool
    libraries: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return [feature.name for feature in self.features]


def write_run(folder: Path, run: Run, weights: bytes) -> None:
    """Write a run directory, each file whole or not at all.

    Raises:
        DataError: The folder can't be written.
    """
    tree = {"schema": RUN_SCHEMA, **dataclasses.asdict(run)}
    text = json.dumps(tree, indent=1, sort_keys=True, allow_nan=False, default=_plain) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in ((WEIGHTS_FILE, weights), (RUN_FILE, text.encode())):
            staging = folder / f".{name}.{os.getpid()}"
            staging.write_bytes(data)
            staging.replace(folder / name)
    except OSError as error:
        raise DataError(f"cannot write the run {folder}: {error.strerror}") from error


def read_run(folder: Path) -> tuple[Run, bytes]:
    """Read a run directory.

    Returns:
        The run and the bytes of its weights.

    Raises:
        DataError: Not a run directory, or one of another schema.
    """
    try:
        tree = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        weights = (folder / WEIGHTS_FILE).read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is not a run directory: {RUN_FILE} or {WEIGHTS_FILE} can't be read") from error
    if not isinstance(tree, dict) or tree.pop("schema", None) != RUN_SCHEMA:
        raise DataError(f"{folder}/{RUN_FILE}: another schema than {RUN_SCHEMA}")
    try:
        scaler = tree["scaler"]
        vectors: dict[str, Any] = {name: None if (v := scaler[name]) is None else np.array(v) for name in SCALER_VECTORS}
        run = Run(
            **{
                **tree,
                "model": _make(ModelConfig, tree["model"]),
                "fit": _make(FitConfig, tree["fit"]),
                "source": _make(SourceConfig, tree["source"]),
                "features": tuple(_make(Feature, feature) for feature in tree["features"]),
                "minimum": tuple(tree["minimum"]),
                "maximum": tuple(tree["maximum"]),
                "ranges": {name: _make(TimeRange, part) for name, part in tree["ranges"].items()},
                "report": _make(DataReport, tree["report"]),
                "scaler": Scaler(
                    transform=scaler["transform"],
                    differencing=scaler["differencing"],
                    window_scale=scaler["window_scale"],
                    **vectors,
                ),
                "naive_error": tuple(tree["naive_error"]),
                "history": {name: tuple(values) for name, values in tree["history"].items()},
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}/{RUN_FILE}: a key is unknown or absent ({error})") from error
    return run, weights


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that shape the result."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _make(kind: type[_T], tree: Mapping[str, Any]) -> _T:
    return kind(**tree)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
