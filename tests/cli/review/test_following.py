"""What a watch says of its rules of suppression at the start, and what it follows."""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mods_grpc.cli.review.following import UNUSED_AFTER, make_review
from mods_grpc.ids.alerts.mutes.suppression import Suppression
from mods_grpc.ids.alerts.mutes.suppression_file import read_suppression

RULES = """
[[mute]]
id = "fired"
feature = ["http_*"]

[[mute]]
id = "quiet"
feature = ["htp_in", "conn_in"]

[[mute]]
id = "over"
series = ["site"]
until = 2020-01-01T00:00:00Z

[[planned]]
name = "past"
start = 2020-01-01T00:00:00Z
end = 2020-01-02T00:00:00Z
"""


def start_review(path: Path, age: timedelta) -> Suppression:
    """Start with the rules of a file that are as old as `age`, of which one fired."""
    suppression = read_suppression(path)
    now = datetime.now(UTC)
    suppression.hits.watch(suppression.names, now - age)
    suppression.hits.count("mute fired", now)
    pipeline = SimpleNamespace(suppression=suppression, feedback=None, set_suppression=None)
    model = SimpleNamespace(name="campus", feature_names=("http_in", "conn_in"))
    arguments = argparse.Namespace(suppress=path, minimum_severity=None)
    make_review(arguments, cast("Any", model), cast("Any", pipeline))()
    return suppression


@pytest.mark.parametrize(("age", "unused"), [(UNUSED_AFTER, ["mute quiet"]), (UNUSED_AFTER - timedelta(hours=1), [])])
def test_rules_that_never_muted_anything_and_are_not_over_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, age: timedelta, unused: list[str]
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "rules.toml").write_text(RULES)
    start_review(tmp_path / "rules.toml", age)
    assert [record.__dict__["rule"] for record in caplog.records if record.message == "suppression_unused"] == unused


def test_a_pattern_of_a_feature_that_the_model_has_not_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    start_review(tmp_path / "rules.toml", timedelta())
    (record,) = [record for record in caplog.records if record.message == "pattern_matches_nothing"]
    assert record.__dict__["pattern"] == "htp_in"
    assert record.__dict__["hint"] == "the features of campus are http_in, conn_in"
