"""The artifact contract: what `training` writes and the server reads. Standard library only.

A model is a folder `<name>/<version>/` of `model.onnx`, `manifest.json`, `parity.npz` and `MODEL_CARD.md`, immutable
once published. `manifest` says what is in it, `layout` writes and reads it, `graph` holds the policy on operators.
"""

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
    Calibration,
    FeatureSpec,
    FileDigest,
    Manifest,
    Metric,
    ScoreCurve,
    Tail,
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
    "Manifest",
    "Metric",
    "ScoreCurve",
    "Tail",
    "TimeRange",
    "check_graph",
    "list_versions",
    "publish",
    "read_artifact",
]
