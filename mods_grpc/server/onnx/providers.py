"""Execution providers of ONNX Runtime: their options, and the choice that `auto` makes.

The options for CUDA follow the provider's documentation; docs/how-to/run-on-gpu.md says what has been run on a device.
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
        "device_id": "0",  # another device by CUDA_VISIBLE_DEVICES
        "use_tf32": "0",  # on by default, with a mantissa of 10 bits; p-values are calibrated with 23
        "cudnn_conv_algo_search": "HEURISTIC",  # the default tries all algorithms at every new batch size
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles what a model and its predecessor hold
    },
    "tensorrt": {},
}


def list_candidates(available: Sequence[str]) -> list[str]:
    """Return the providers that `auto` tries, of those that this build of ONNX Runtime has."""
    return [name for name in ("cuda", "cpu") if PROVIDER_NAMES[name] in available]


def choose_fastest(costs: Sequence[CostModel]) -> int:
    """Return the index of the lowest cost, by the geometric mean over all batch sizes.

    A device takes longer than a processor for one window and less for thousands. A model runs on one provider only: on two, its
    verdicts would depend on how many observations come together.
    """
    means = [cost.mean for cost in costs]
    return means.index(min(means))
