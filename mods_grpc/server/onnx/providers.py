"""ONNX Runtime's execution providers: how each is set up, and which one `auto` takes.

The options for CUDA come from the documentation of the provider and were not run on a device; docs/gpu.md says what that means.
"""

from collections.abc import Sequence

from mods_grpc.server.onnx.cost_model import CostModel

PROVIDER_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {},
    "cuda": {
        "device_id": "0",  # another one by CUDA_VISIBLE_DEVICES
        "use_tf32": "0",  # on by default, with a mantissa of 10 bits; p-values are calibrated with 23
        "cudnn_conv_algo_search": "HEURISTIC",  # the default tries all algorithms at every new size of a batch
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles what a model and its predecessor hold
    },
    "tensorrt": {},
}


def list_candidates(available: Sequence[str]) -> list[str]:
    """Return what `auto` tries, of the providers that this build of ONNX Runtime has."""
    return [name for name in ("cuda", "cpu") if PROVIDER_NAMES[name] in available]


def choose_fastest(costs: Sequence[CostModel]) -> int:
    """Return which of several ways to run a model takes least, over all sizes alike: by the geometric mean.

    A device takes longer than a processor for one window and less for thousands, and a model runs on one provider alone:
    on two its verdicts would depend on how many observations come together.
    """
    means = [cost.mean for cost in costs]
    return means.index(min(means))
