"""What watch and replay make of the flags and of the model's features."""

import argparse
import logging
from types import SimpleNamespace

import pytest

from mods_grpc.cli.watch_wiring import _uses_envelope, make_blindness, make_columns
from mods_grpc.client.results import VerdictStatus
from mods_grpc.features import GroupBy
from mods_grpc.features.presets import PRESETS

HOUR_NS = 3_600 * 10**9


def model_of(*keys):
    pairs = [key.split("|") for key in keys]
    feature = {"unit": "1", "pane": False, "training_minimum": 0.0, "training_maximum": 9.0}
    features = [
        SimpleNamespace(name=f"{protocol}|{column}", protocol=protocol, column=column, **feature) for protocol, column in pairs
    ]
    return SimpleNamespace(
        name="m", features=features, feature_names=keys, window_seconds=3_600.0, slide_seconds=600.0, window_rows=24
    )


def flags(group_by):
    return argparse.Namespace(features=[], group_by=group_by, sensor="s")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("group_by", [GroupBy.HOST, GroupBy.SITE, GroupBy.SUBNET])
def test_a_model_of_hosts_for_other_series_is_warned_of(preset, group_by, caplog):
    with caplog.at_level(logging.WARNING):
        make_columns(flags(group_by), model_of(*PRESETS[preset].keys))
    is_wrong = PRESETS[preset].is_by_host and group_by is not GroupBy.HOST
    assert [record.message for record in caplog.records] == ["series_not_hosts"] * is_wrong


@pytest.mark.parametrize(("column", "hours"), [("out_new_hosts", 3), ("out_connections", 1)])
def test_live_nothing_is_said_of_warming_up_while_a_model_learns_what_is_new(column, hours):
    model = model_of(f"conn|{column}")
    blindness = make_blindness(flags(GroupBy.HOST), model, make_columns(flags(GroupBy.HOST), model), live=True)
    gap = blindness._scoring_gap
    verdict = SimpleNamespace(status=VerdictStatus.WARMING_UP, error=None)
    gap.observe(HOUR_NS, 0.0)
    for hour in range(1, 5):
        gap.add_verdicts([verdict])
        gap.observe((hour + 1) * HOUR_NS, 3_600.0)
        assert bool(list(gap.find(is_connected=True))) is (hour >= hours)


@pytest.mark.parametrize(
    ("name", "is_wrong"), [("10.1.2.3", False), ("2001%3Adb8%3A%3A1", False), ("pool", True), ("10.1.2.0%2F24", True)]
)
def test_a_datapool_of_a_host_is_one_whatever_the_grouping_of_logs(tmp_path, caplog, name, is_wrong):
    preset = next(preset for preset in PRESETS.values() if preset.is_by_host)
    with caplog.at_level(logging.WARNING):
        for group_by in (GroupBy.SITE, GroupBy.HOST):
            make_columns(flags(group_by), model_of(*preset.keys), tmp_path / name)
    assert [record.message for record in caplog.records] == ["series_not_hosts"] * 2 * is_wrong
    assert all("replay the folder of a host that aggregate wrote with --group-by host" in each.hint for each in caplog.records)


@pytest.mark.parametrize("flag", [None, True, False])
@pytest.mark.parametrize("group_by", list(GroupBy))
def test_hosts_and_subnets_are_judged_by_their_own_envelopes_unless_the_flag_says_otherwise(group_by, flag, caplog):
    arguments = argparse.Namespace(group_by=group_by, own_envelope=flag, logs=[])
    model = SimpleNamespace(name="m", version=1, envelope=b"")
    is_expected = group_by in (GroupBy.HOST, GroupBy.SUBNET) if flag is None else flag
    with caplog.at_level(logging.WARNING):
        assert _uses_envelope(arguments, model) == is_expected
    assert [record.message for record in caplog.records] == ["no_envelope"] * is_expected
    caplog.clear()
    model.envelope = "{}"
    assert _uses_envelope(arguments, model) == is_expected
    assert not caplog.records
