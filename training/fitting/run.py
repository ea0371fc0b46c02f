"""A run directory: `run.json` (options, data and course of the fit) and `weights.npz`. It holds data, never code.

Reading one does not load TensorFlow, which takes seconds: what is wrong with options, runs and data is said first.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mods_grpc.artifact import TimeRange
from mods_grpc.artifact.strict_json import to_jsonable
from mods_grpc.atomic_file import write_atomically
from mods_grpc.errors import DataError
from training.data.feature import FeatureColumn
from training.data.series import DataReport
from training.data.source import SourceConfig
from training.network.config import FitConfig, ModelConfig
from training.network.scaler import Scaler

RUN_FILE = "run.json"
WEIGHTS_FILE = "weights.npz"
RUN_SCHEMA = 1

_LIBRARIES = ("keras", "lightgbm", "numpy", "onnx", "onnxruntime", "pandas", "tensorflow", "tensorflow-cpu", "tf2onnx")

SCALER_VECTORS = (
    "input_mean",
    "input_scale",
    "output_mean",
    "output_scale",
    "level_mean",
    "level_scale",
    "highest",
    "level_share",
    "level_floor",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRun:
    """The record of a fit, without its weights.

    Attributes:
        created: When the run ended, ISO 8601, UTC.
        command: The command line that reproduces it.
        model, fit, source: The options.
        features: The features in order. minimum, maximum: Their range over the training rows, in the same order.
        window_seconds, slide_seconds: Window and slide of the data.
        ranges: Rows of each part, by its name in `windows.PARTS`.
        samples: Windows without missing values, by part.
        data_digest: Digest of the data as read, see `series.Series`.
        report: Irregularities of the data and their repair.
        scaler: Preprocessing, fitted on the training windows.
        naive_error: MAE of persistence over one step on the training rows, by feature: the unit of MASE.
        history: Losses by epoch. best_epoch: From 1. interrupted: Whether Ctrl-C ended the fit.
        libraries: Versions of the libraries, by name.
    """

    created: str
    command: str
    model: ModelConfig
    fit: FitConfig
    source: SourceConfig
    features: tuple[FeatureColumn, ...]
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


def write_run(folder: Path, run: TrainingRun, weights: bytes) -> None:
    """Write a run directory, each file whole or not at all.

    Raises:
        DataError: The folder can't be written.
    """
    tree = {"schema": RUN_SCHEMA, **dataclasses.asdict(run)}
    text = json.dumps(tree, indent=1, sort_keys=True, allow_nan=False, default=to_jsonable) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / WEIGHTS_FILE, weights)
        write_atomically(folder / RUN_FILE, text.encode())
    except OSError as error:
        raise DataError(f"cannot write the run {folder}: {error.strerror}") from error


def read_run(folder: Path) -> tuple[TrainingRun, bytes]:
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
        vectors: dict[str, Any] = {name: None if (v := scaler.get(name)) is None else np.array(v) for name in SCALER_VECTORS}
        run = TrainingRun(
            **{
                **tree,
                "model": ModelConfig(**tree["model"]),
                "fit": FitConfig(**tree["fit"]),
                "source": SourceConfig(**tree["source"]),
                "features": tuple(FeatureColumn(**feature) for feature in tree["features"]),
                "minimum": tuple(tree["minimum"]),
                "maximum": tuple(tree["maximum"]),
                "ranges": {name: TimeRange(**part) for name, part in tree["ranges"].items()},
                "report": DataReport(**tree["report"]),
                "scaler": Scaler(
                    transform=scaler["transform"],
                    differencing=scaler["differencing"],
                    window_scale=scaler["window_scale"],
                    panes=scaler["panes"],
                    has_panes=None if scaler["has_panes"] is None else np.array(scaler["has_panes"], np.bool_),
                    **vectors,
                ),
                "naive_error": tuple(tree["naive_error"]),
                "history": {name: tuple(values) for name, values in tree["history"].items()},
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}/{RUN_FILE}: a key is unknown or absent ({error})") from error
    return run, weights


def read_library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that the result depends on."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
