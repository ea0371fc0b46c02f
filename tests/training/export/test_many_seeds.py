"""No fit on sparse features is refused, whatever the seed, and all come equally near to Keras."""

import numpy as np
import pytest

from tests.support.training.data import make_sparse
from training.data.windows import make_samples
from training.export.parity import MAX_PARITY_ERROR, check_parity, extreme_windows, make_parity_vectors
from training.export.raw_function import compile_outputs
from training.export.to_onnx import export_graph
from training.fitting.fit import fit
from training.network.architectures import build
from training.network.config import FitConfig, ModelConfig

pytestmark = [pytest.mark.train, pytest.mark.slow]
SERIES = make_sparse(1200)
HEADROOM = 4.0
"""Other processors sum in other orders: here the error must be below the bound by this factor."""

MODELS = {
    "MLP": (25, ModelConfig(model_type="MLP", transform="log1p", blocks=16)),
    "MLP of raw values": (5, ModelConfig(model_type="MLP", blocks=16)),
    "MLP of levels": (5, ModelConfig(model_type="MLP", transform="log1p", model_delta=False, blocks=16)),
    "MLP, scaled by window": (5, ModelConfig(model_type="MLP", transform="log1p", window_scale=True, level=True, blocks=16)),
    "LSTM": (5, ModelConfig(model_type="LSTM", transform="log1p", blocks=16)),
    "GRU with quantiles": (3, ModelConfig(model_type="GRU", transform="log1p", blocks=16, quantiles="0.05,0.5,0.95")),
    "NLinear": (5, ModelConfig(model_type="NLinear", transform="log1p", steps_ahead=6)),
    "ensemble": (3, ModelConfig(model_type="ensemble", transform="log1p", blocks=16, linear=True, level=True, steps_ahead=6)),
}


@pytest.mark.parametrize(("seeds", "config"), MODELS.values(), ids=MODELS.keys())
def test_no_seed_is_refused(seeds: int, config: ModelConfig) -> None:
    features = len(SERIES.features)
    train, validation = (
        make_samples(SERIES, (part,), config.rows, config.steps_ahead) for part in (slice(0, 900), slice(930, 1200))
    )
    chosen = np.linspace(0, len(train) - 1, 257).astype(int)
    errors = []
    for seed in range(1, seeds + 1):
        loss = "pinball" if config.levels else "mae"
        fitted = fit(config, FitConfig(epochs=2, seed=seed, loss=loss), train, validation)
        network = build(config, features)  # not compiled for fitting, as when a run is read
        network.set_weights(fitted.network.get_weights())
        outputs = compile_outputs(network, config, fitted.scaler, features)
        parity = make_parity_vectors(outputs, fitted.scaler, extreme_windows(train.windows[chosen]), train.times[chosen])
        errors.append(check_parity(export_graph(network, config, fitted.scaler, features), parity))
    assert max(errors) < MAX_PARITY_ERROR / HEADROOM, errors
