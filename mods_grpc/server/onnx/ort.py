"""ONNX Runtime: the only module of the server that imports it. Opens graphs on a given provider, and on no other."""

import logging
import os
from collections.abc import Mapping

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # Linux builds send it by default; must be set before the import

import onnxruntime as ort

from mods_grpc.artifact import Artifact
from mods_grpc.artifact.onnx_options import set_session_options
from mods_grpc.errors import ArtifactError
from mods_grpc.server.onnx.providers import PROVIDER_NAMES, PROVIDER_OPTIONS

__all__ = ["open_runtime", "ort"]

NO_OPTIONS: Mapping[str, str] = {}

logger = logging.getLogger(__name__)


def open_runtime(
    artifact: Artifact, file: str, provider: str, extra_options: Mapping[str, str] = NO_OPTIONS
) -> ort.InferenceSession:
    """Open a graph.

    Args:
        artifact: The model.
        file: Which of its graphs.
        provider: "cpu", "cuda" or "tensorrt".
        extra_options: Options of the provider in addition to PROVIDER_OPTIONS.

    Raises:
        ArtifactError: It can't be opened on this provider.
    """
    provider_name = PROVIDER_NAMES[provider]
    if provider_name not in ort.get_available_providers():
        raise ArtifactError(f"ONNX Runtime has no {provider_name} here")
    if provider != "cpu":
        ort.preload_dlls()
    options = ort.SessionOptions()
    set_session_options(options)
    providers = [(provider_name, PROVIDER_OPTIONS[provider] | dict(extra_options))]
    try:
        runtime = ort.InferenceSession(artifact.graphs[file], options, providers=providers, enable_fallback=0)
        runtime.disable_fallback()
    except Exception as error:  # bare types of ONNX Runtime, with paths in their text
        fields = {"model": artifact.manifest.name, "version": artifact.manifest.version, "error": repr(error)}
        logger.warning("session_failed", extra=fields)
        raise ArtifactError(f"{file}: ONNX Runtime can't load it on {provider_name}") from error
    if runtime.get_providers()[0] != provider_name:
        raise ArtifactError(f"ONNX Runtime fell back from {provider_name} to {runtime.get_providers()[0]}")
    return runtime
