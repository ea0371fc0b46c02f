"""The files of a model version, as `training` publishes them and the server loads them."""

from mods_grpc.artifact.calibration import (
    Calibration,
    DayScale,
    IntervalReference,
    LevelReference,
    PatternReference,
    ScoreCurve,
    Tail,
)
from mods_grpc.artifact.graph_policy import ALLOWED_OPERATORS, GraphSummary, check_graph
from mods_grpc.artifact.manifest import (
    FeatureSpec,
    FileDigest,
    Manifest,
    Metric,
    TimeRange,
)
from mods_grpc.artifact.signature import TrustedKeys, read_signing_key
from mods_grpc.artifact.version_folder import (
    BATCH_MODEL_FILE,
    CARD_FILE,
    LISTED_FILES,
    MANIFEST_FILE,
    MODEL_FILE,
    PARITY_FILE,
    SIGNATURE_FILE,
    Artifact,
    list_versions,
    publish,
    read_artifact,
    sign_version,
)

__all__ = [
    "ALLOWED_OPERATORS",
    "BATCH_MODEL_FILE",
    "CARD_FILE",
    "LISTED_FILES",
    "MANIFEST_FILE",
    "MODEL_FILE",
    "PARITY_FILE",
    "SIGNATURE_FILE",
    "Artifact",
    "Calibration",
    "DayScale",
    "FeatureSpec",
    "FileDigest",
    "GraphSummary",
    "IntervalReference",
    "LevelReference",
    "Manifest",
    "Metric",
    "PatternReference",
    "ScoreCurve",
    "Tail",
    "TimeRange",
    "TrustedKeys",
    "check_graph",
    "list_versions",
    "publish",
    "read_artifact",
    "read_signing_key",
    "sign_version",
]
