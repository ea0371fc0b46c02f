"""Opens a model: checks its graphs, tries the providers, and keeps the fastest way to run it."""

import logging
from dataclasses import replace

from mods_grpc.artifact import BATCH_MODEL_FILE, MODEL_FILE, Artifact, check_graph
from mods_grpc.errors import ArtifactError
from mods_grpc.server.onnx.cost_model import CostModel, measure_cost
from mods_grpc.server.onnx.execution_choice import choose_fastest_runner, open_cuda_runners
from mods_grpc.server.onnx.model_check import ParityBatch, check_contract, check_parity, with_large_graph, with_min_batch
from mods_grpc.server.onnx.ort import open_runtime, ort
from mods_grpc.server.onnx.providers import PROVIDER_NAMES, choose_fastest, list_candidates
from mods_grpc.server.onnx.session import Session

logger = logging.getLogger(__name__)


def open_session(artifact: Artifact, provider: str) -> Session:
    """Check a model and open its session.

    Args:
        artifact: The model, its digests verified.
        provider: "auto", "cpu", "cuda" or "tensorrt". All but "auto" fail rather than fall back.

    Raises:
        ArtifactError: The graph, its inputs and outputs, its forecasts or the provider were rejected.
    """
    for file, graph in artifact.graphs.items():
        check_graph(graph, file)
    names = [provider] if provider != "auto" else list_candidates(ort.get_available_providers())
    opened: list[tuple[Session, CostModel]] = []
    for name in names:
        try:
            session, parity = _open_checked(artifact, name, MODEL_FILE)
            if name == "cuda":
                session = _on_device(session, artifact, parity)
            session = with_min_batch(session, parity.windows, parity.times)
            if BATCH_MODEL_FILE in artifact.graphs and name == "cpu":  # elsewhere its many small operators would be slower
                second = _open_checked(artifact, name, BATCH_MODEL_FILE)[0]
                session = with_large_graph(session, second, parity.windows, parity.times)
        except ArtifactError as error:
            if name == names[-1] and not opened:
                raise
            logger.warning("provider_rejected", extra={"provider": name, "reason": error.message})
        else:
            if len(names) == 1:
                return session
            opened.append((session, measure_cost(session.forecast, parity.windows, session.run_seconds)))
    return opened[choose_fastest([cost for _, cost in opened])][0]


def _open_checked(artifact: Artifact, provider: str, file: str) -> tuple[Session, ParityBatch]:
    """Open one graph of a model, check contract and parity, and return it with the largest batch of parity vectors."""
    with_quantiles = artifact.manifest.calibration.interval is not None
    session = Session(open_runtime(artifact, file, provider), PROVIDER_NAMES[provider], with_quantiles=with_quantiles)
    session = replace(session, uses_time=check_contract(session, artifact, file))
    return session, check_parity(session, artifact, file)


def _on_device(session: Session, artifact: Artifact, parity: ParityBatch) -> Session:
    """Return the session with the runner that was measured to be the fastest on the device."""
    tolerance = artifact.manifest.tolerance[session.provider]
    candidates = [
        replace(session, runtime=runtime, runner=runner)
        for runtime, runner in open_cuda_runners(artifact, session.runtime, session.outputs)
    ]
    fastest = choose_fastest_runner(
        [candidate.forecast for candidate in candidates],
        parity.windows,
        parity.times,
        lambda actual, expected: parity.difference(actual, expected) <= tolerance,
        session.run_seconds,
    )
    return candidates[fastest]
