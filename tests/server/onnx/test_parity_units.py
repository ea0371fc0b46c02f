"""The parity check of a load, in the units that the vectors state; versions without units are judged as they always were."""

import io
from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.artifact import list_versions, read_artifact
from mods_grpc.artifact.parity import UNIT_SUFFIX
from mods_grpc.errors import ArtifactError
from mods_grpc.server.onnx.open_session import open_session
from tests.support.loaded_repository import pack_vectors, publish_with
from tests.support.models.quantile import make_quantile_graph, make_quantile_parity, publish_quantiles
from tests.support.models.tiny import HORIZON, ROWS, forecast_mean, make_mean_graph
from tests.support.paths import EXPORTED

TOLERANCE = {"CPUExecutionProvider": 1e-5}
SMALL = np.full((1, ROWS, 2), 1e-4)
LARGE = np.full((3, ROWS, 2), 50.0)
VECTORS = {"window_1": SMALL, "forecast_1": forecast_mean(SMALL), "window_3": LARGE, "forecast_3": forecast_mean(LARGE)}
UNITS = {"forecast_unit_1": np.full((1, HORIZON, 2), 0.5), "forecast_unit_3": np.full((3, HORIZON, 2), 20.0)}


def open_tiny(folder, factor, **arrays):
    publish_with(folder, "tiny", parity=pack_vectors(**arrays), model=make_mean_graph(factor=factor), tolerance=TOLERANCE)
    return open_session(read_artifact(folder, "tiny", 1), "cpu")


def test_a_forecast_near_zero_is_held_to_its_unit(tmp_path):
    assert open_tiny(tmp_path, 1 + 3e-6, **VECTORS | UNITS).provider == "CPUExecutionProvider"


def test_a_wrong_graph_is_refused_with_its_error_in_units(tmp_path):
    with pytest.raises(ArtifactError, match=r"model.onnx: parity error 2.5e-05 at batch 3, accepted is 1e-05"):
        open_tiny(tmp_path, 1 + 1e-5, **VECTORS | UNITS)


def test_without_units_an_error_is_relative_to_the_largest_forecast_of_the_batch(tmp_path):
    small = {name: array for name, array in VECTORS.items() if name.endswith("_1")}
    with pytest.raises(ArtifactError, match=r"model.onnx: parity error 3e-05 at batch 1, accepted is 1e-05"):
        open_tiny(tmp_path, 1 + 3e-5, **small)
    assert open_tiny(tmp_path / "with units", 1 + 3e-5, **small, forecast_unit_1=UNITS["forecast_unit_1"])


@pytest.mark.parametrize(
    "change",
    [
        {"forecast_unit_3": None},
        {"forecast_unit_3": UNITS["forecast_unit_1"]},
        {"forecast_unit_3": UNITS["forecast_unit_3"].astype(np.float32)},
        {"forecast_unit_3": UNITS["forecast_unit_3"] * 0},
        {"forecast_unit_3": -UNITS["forecast_unit_3"]},
        {"forecast_unit_3": UNITS["forecast_unit_3"] * np.inf},
        {"forecast_unit_3": UNITS["forecast_unit_3"] * np.nan},
    ],
    ids=["absent", "other shape", "float32", "zero", "negative", "infinite", "no number"],
)
def test_units_that_can_not_judge_every_value_are_refused(tmp_path, change):
    arrays = {name: array for name, array in (VECTORS | UNITS | change).items() if array is not None}
    with pytest.raises(ArtifactError, match=r"the units of a batch of 3 are not float64 of \(3, 3, 2\), finite and above 0"):
        open_tiny(tmp_path, 1.0, **arrays)


def unit_arrays(value):
    """Return units of a quantile model: 1 of its forecasts, `value` of its quantiles."""
    units = {f"forecast_unit_{n}": np.ones((n, HORIZON, 2)) for n in (1, 3, 9)}
    return units | {f"quantiles_unit_{n}": np.full((n, HORIZON, 2, 3), value) for n in (1, 3, 9)}


def test_ends_of_an_interval_have_units_of_their_own(tmp_path):
    model = make_quantile_graph(stretch=(1.0, 1 + 1e-6))
    publish_quantiles(tmp_path / "coarse", model=model, parity=make_quantile_parity(**unit_arrays(1e3)), tolerance=TOLERANCE)
    assert open_session(read_artifact(tmp_path / "coarse", "tiny", 1), "cpu").with_quantiles
    publish_quantiles(tmp_path / "fine", model=model, parity=make_quantile_parity(**unit_arrays(1.0)), tolerance=TOLERANCE)
    with pytest.raises(ArtifactError, match=r"model.onnx: parity error 0.00"):
        open_session(read_artifact(tmp_path / "fine", "tiny", 1), "cpu")
    without = {name: array for name, array in unit_arrays(1.0).items() if name.startswith("forecast")}
    publish_quantiles(tmp_path / "half", parity=make_quantile_parity(**without), tolerance=TOLERANCE)
    with pytest.raises(ArtifactError, match=r"parity.npz: the units of a batch of 1 are not float64"):
        open_session(read_artifact(tmp_path / "half", "tiny", 1), "cpu")


@pytest.mark.parametrize("which", list_versions(EXPORTED), ids=lambda which: f"{which[0]}-{which[1]}")
def test_a_shipped_version_loads_without_units(which):
    artifact = read_artifact(EXPORTED, *which)
    with np.load(io.BytesIO(artifact.parity), allow_pickle=False) as vectors:
        arrays = {name: vectors[name] for name in vectors.files if UNIT_SUFFIX not in name}
    assert open_session(replace(artifact, parity=pack_vectors(**arrays)), "cpu").provider == "CPUExecutionProvider"
