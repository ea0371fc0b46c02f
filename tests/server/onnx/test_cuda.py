"""On a CUDA device: the shipped models load there and say, whichever way they run, what they say on the processor."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from mods_grpc.artifact import list_versions, read_artifact
from mods_grpc.artifact.parity import feature_relative_error
from mods_grpc.server.onnx.execution_choice import open_cuda_runners
from mods_grpc.server.onnx.open_session import open_session
from tests.support.paths import EXPORTED

HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not HAS_CUDA, reason="this build of ONNX Runtime has no CUDA")]


@pytest.mark.parametrize("which", list_versions(EXPORTED), ids=lambda which: f"{which[0]}-{which[1]}")
def test_a_model_gives_the_same_forecasts_on_device_and_processor(which):
    artifact = read_artifact(EXPORTED, *which)
    device, processor = open_session(artifact, "cuda"), open_session(artifact, "cpu")
    assert device.provider == "CUDAExecutionProvider"
    ways = [
        replace(device, runtime=runtime, runner=runner)
        for runtime, runner in open_cuda_runners(artifact, device.runtime, device.outputs)
    ]
    assert len(ways) >= 2  # plainly and in buffers; not every graph can be captured
    low, high = (np.array([getattr(f, f"training_{end}") for f in artifact.manifest.features]) for end in ("minimum", "maximum"))
    for batch in (1, 2, 17, 256, 4096):
        rng = np.random.default_rng(batch)
        windows = rng.uniform(low, high, (batch, artifact.manifest.rows, len(low)))
        times = rng.integers(0, 2**60, batch)
        expected = processor.forecast(windows, times)
        for way in (device, *ways):
            assert feature_relative_error(way.forecast(windows, times), expected) < artifact.manifest.tolerance[device.provider]
