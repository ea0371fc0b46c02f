"""Presets and descriptions cover the columns that there are."""

import pytest

from mods_grpc.errors import DataError
from mods_grpc.features import Definition
from mods_grpc.features.definitions import FEATURES
from mods_grpc.features.presets import PRESETS, find_preset
from mods_grpc.features.presets.descriptions import describe


@pytest.mark.parametrize("name", PRESETS)
def test_every_column_of_a_preset_exists_once(name):
    preset = find_preset(name)
    assert len(Definition.of(preset.keys).features) == len(preset.keys)
    assert set(preset.protocols) == {key.partition("|")[0] for key in preset.keys}


def test_the_outward_preset_has_no_inbound_column_and_the_exposed_one_has_no_other():
    directions = {
        name: {feature.direction for feature in Definition.of(preset.keys).features} for name, preset in PRESETS.items()
    }
    assert directions["outward"] == {"out", "internal"}
    assert directions["exposed"] == {"in"}


def test_no_preset_has_a_column_that_log1p_does_not_take():
    assert not [key for preset in PRESETS.values() for key in preset.keys if key.endswith("ratio")]


def test_an_unknown_preset_is_refused_with_the_names_of_those_there_are():
    with pytest.raises(DataError, match="no preset inward; there are outward, site, exposed"):
        find_preset("inward")


def test_every_column_is_described_and_measures_of_one_log_differ():
    for protocol in {feature.protocol for feature in FEATURES}:
        texts = {feature.measure.name: describe(feature) for feature in FEATURES if feature.protocol == protocol}
        repeated = {"bytes_sent"}  # the same as the datapool's, by the end of the connection
        assert len({text for name, text in texts.items() if name not in repeated}) == len(texts.keys() - repeated)
