"""The artifact contract: what `training` writes and the server reads. Standard library only.

A model is a folder `<name>/<version>/` of `model.onnx`, `manifest.json`, `parity.npz` and `MODEL_CARD.md`, immutable
once published. `manifest` says what is in it, `layout` writes and reads it, `graph` holds the policy on operators.
"""

from mods_grpc.artifact.calibration import Calibration, LevelReference, PatternReference, ScoreCurve, Tail
from mods_grpc.artifact.graph import ALLOWED_OPERATORS, GraphSummary, check_graph
from mods_grpc.artifact.layout import (
    CARD_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    PARITY_FILE,
    Artifact,
    list_versions,
    publish,
    read_artifact,
)
from mods_grpc.artifact.manifest import (
    FeatureSpec,
    FileDigest,
    Manifest,
    Metric,
    TimeRange,
)

__all__ = [
    "ALLOWED_OPERATORS",
    "CARD_FILE",
    "MANIFEST_FILE",
    "MODEL_FILE",
    "PARITY_FILE",
    "Artifact",
    "Calibration",
    "FeatureSpec",
    "FileDigest",
    "GraphSummary",
    "LevelReference",
    "Manifest",
    "Metric",
    "PatternReference",
    "ScoreCurve",
    "Tail",
    "TimeRange",
    "check_graph",
    "list_versions",
    "publish",
    "read_artifact",
]
