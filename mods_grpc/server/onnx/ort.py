"""ONNX Runtime as this package uses it: imported here, and opened here on a provider that was proven."""

import logging
import os
from collections.abc import Mapping

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # Linux builds send it by default; must be set before the import

import onnxruntime as ort

from mods_grpc.artifact import Artifact
from mods_grpc.errors import ArtifactError
from mods_grpc.server.onnx.providers import PROVIDER_NAMES, PROVIDER_OPTIONS

__all__ = ["open_runtime", "ort"]

NO_OPTIONS: Mapping[str, str] = {}

log = logging.getLogger(__name__)


def open_runtime(artifact: Artifact, file: str, provider: str, extra_options: Mapping[str, str] = NO_OPTIONS) -> ort.InferenceSession:
    """Open a graph.

    Args:
        artifact: The model.
        file: Which of its graphs.
        provider: "cpu", "cuda" or "tensorrt".
        others: Options of the provider beside those it always has.

    Raises:
        ArtifactError: It can't be opened there.
    """
    wanted = PROVIDER_NAMES[provider]
    if wanted not in ort.get_available_providers():
        raise ArtifactError(f"ONNX Runtime has no {wanted} here")
    if provider != "cpu":
        ort.preload_dlls()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        runtime = ort.InferenceSession(
            artifact.graphs[file], options, providers=[(wanted, PROVIDER_OPTIONS[provider] | dict(extra_options))], enable_fallback=0
        )
        runtime.disable_fallback()
    except Exception as error:  # the runtime raises bare types of its own, and its text names paths
        log.warning("session_failed model=%s version=%d error=%r", artifact.manifest.name, artifact.manifest.version, error)
        raise ArtifactError(f"{file}: ONNX Runtime can't load it on {wanted}") from error
    if runtime.get_providers()[0] != wanted:
        raise ArtifactError(f"ONNX Runtime fell back from {wanted} to {runtime.get_providers()[0]}")
    return runtime
