import numpy as np
import pytest

from mods_grpc.errors import DataError
from training.network.config import ModelConfig
from training.network.losses import make_loss

PLAIN = ModelConfig()
QUANTILES = ModelConfig(quantiles="0.1,0.5,0.9")
RANDOM = np.random.default_rng(1)
TARGETS = RANDOM.normal(size=(5, 4, 2)).astype(np.float32)
EMITTED = RANDOM.normal(size=(5, 4, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("loss", "element"),
    [("mse", np.square), ("mae", np.abs), ("huber", lambda e: np.where(np.abs(e) <= 1, e**2 / 2, np.abs(e) - 0.5))],
)
def test_is_the_mean_over_all_values(loss, element):
    assert float(make_loss(loss, PLAIN)(TARGETS, EMITTED)) == pytest.approx(element(EMITTED - TARGETS).mean(), rel=1e-5)


def test_several_paths_are_each_held_against_the_targets():
    loss = make_loss("mae", PLAIN)
    both = float(loss(TARGETS, np.concatenate([EMITTED, TARGETS], axis=1)))
    assert both == pytest.approx(float(loss(TARGETS, EMITTED)) / 2, rel=1e-5)


@pytest.mark.parametrize("loss", ["pinball", "mae"])
def test_the_pinball_loss_of_the_median_is_the_mean_absolute_error(loss):
    same = np.repeat(EMITTED[..., None], 3, axis=-1)
    value = float(make_loss(loss, QUANTILES)(TARGETS, same))
    assert value == pytest.approx(np.abs(EMITTED - TARGETS).mean(), rel=1e-5)


def test_the_pinball_loss_is_least_at_the_quantiles():
    draws = np.random.default_rng(2).exponential(size=(4001, 1, 1)).astype(np.float32)
    loss = make_loss("pinball", QUANTILES)

    def of(levels):
        return float(loss(draws, np.broadcast_to(np.float32(levels), (4001, 1, 1, 3))))

    best = np.quantile(draws, [0.1, 0.5, 0.9])
    for level in range(3):
        for shift in (0.9, 1.1):
            moved = best.copy()
            moved[level] *= shift
            assert of(moved) > of(best)


def test_a_loss_and_quantiles_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="needs --quantiles"):
        make_loss("pinball", PLAIN)
    with pytest.raises(DataError, match="not by mse"):
        make_loss("mse", QUANTILES)
