"""`mods-grpc features`: the columns and the presets, for people and for programs."""

import json

import pytest

from mods_grpc.cli.main import main
from mods_grpc.features import PROTOCOLS
from mods_grpc.features.definitions import FEATURES
from mods_grpc.features.presets import PRESETS


def lines_of_columns(text):
    return [line.split()[0] for line in text.splitlines() if "|" in line.split(" ")[0]]


def test_all_columns_are_listed_with_what_they_count_and_show(capsys):
    assert main(["features"]) == 0
    text = capsys.readouterr().out
    assert lines_of_columns(text) == [feature.key for feature in FEATURES]
    (line,) = (line for line in text.splitlines() if line.startswith("dns|out_max_subdomains "))
    assert line.rstrip().endswith("  DNS tunnels")
    assert "different names below the registered domain" in line
    assert all(f"--preset {name}: " in text for name in PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_the_columns_of_a_preset_are_listed_alone(capsys, name):
    assert main(["features", "--preset", name]) == 0
    assert lines_of_columns(capsys.readouterr().out) == list(PRESETS[name].keys)


def test_programs_get_json(capsys):
    assert main(["features", "--json", "--protocols", "ssh"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {column["column"].partition("|")[0] for column in listed["columns"]} == {"ssh"}
    (failed,) = (column for column in listed["columns"] if column["column"] == "ssh|in_failed")
    assert failed == {
        "column": "ssh|in_failed",
        "direction": "from remote to local hosts",
        "counts": "sessions whose log-in failed",
        "shows": "guessing of passwords",
        "presets": ["exposed"],
    }
    assert listed["presets"]["outward"]["columns"] == list(PRESETS["outward"].keys)


def test_an_unknown_preset_or_log_is_refused(capsys):
    for words in (["--preset", "x"], ["--protocols", "x"], ["--preset", "site", "--protocols", PROTOCOLS[0]]):
        with pytest.raises(SystemExit):
            main(["features", *words])
