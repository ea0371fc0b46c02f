"""Small networks with weights as if fitted, their exported graphs and their parity vectors.

A case is made once per process: networks, graphs and vectors of cases are shared between tests, which leave them as they are.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnxruntime

from training.export.parity import draw_parity_windows, make_parity_vectors
from training.export.raw_function import compile_outputs
from training.export.to_onnx import export_graph
from training.network.architectures import build
from training.network.backend import keras
from training.network.config import ModelConfig, ModelType
from training.network.scaler import Scaler

FEATURES = 3
TIMES = np.zeros(257, np.int64)


@dataclass(frozen=True, kw_only=True)
class ExportedCase:
    config: ModelConfig
    network: object
    scaler: Scaler
    model: bytes
    parity: bytes


def make_scaler(config: ModelConfig) -> Scaler:
    random = np.random.default_rng(2)
    scale = 0.3 if config.transform == "log1p" else 12.0
    shape = (config.steps_ahead, FEATURES)
    center = 0.0 if config.model_delta else 5.0
    return Scaler(
        transform=config.transform,
        differencing=config.model_delta,
        input_mean=scale * (center + random.uniform(-0.1, 0.1, FEATURES)),
        input_scale=scale * random.uniform(0.5, 2.0, FEATURES),
        output_mean=scale * (center + random.uniform(-0.1, 0.1, shape)),
        output_scale=scale * random.uniform(0.5, 2.0, shape),
        highest=np.full(FEATURES, 20.0) if config.transform == "log1p" else None,
        level_share=np.where(np.arange(FEATURES) == 1, 0.0, 1.0) if config.transform == "level" else None,
        level_floor=np.full(FEATURES, 2.0) if config.transform == "level" else None,
    )


def make_network(config: ModelConfig):
    """Build a network of which no weight is zero or one, as if it had been fitted."""
    keras.utils.set_random_seed(3)
    network = build(config, FEATURES)
    random = np.random.default_rng(3)
    network.set_weights([value + random.uniform(0.01, 0.1, value.shape).astype(value.dtype) for value in network.get_weights()])
    return network


@cache
def make_case(config: ModelConfig) -> ExportedCase:
    network, scaler = make_network(config), make_scaler(config)
    outputs = compile_outputs(network, config, scaler, FEATURES)
    windows = draw_parity_windows(config, scaler, FEATURES)
    return ExportedCase(
        config=config,
        network=network,
        scaler=scaler,
        model=export_graph(network, config, scaler, FEATURES),
        parity=make_parity_vectors(outputs, scaler, windows, TIMES),
    )


def contract_config(model_type: ModelType) -> ModelConfig:
    """Return the options with which every architecture is tested."""
    normalized = model_type in ("MLP", "TCN", "GRU")
    return ModelConfig(model_type=model_type, steps_ahead=4, blocks=8, batch_normalization=normalized)


def count_operators(model: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_model_from_string(model).graph.node)


def run_graph(model: bytes, window: np.ndarray, threads: int = 1) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(["forecast"], {"window": window})[0]
