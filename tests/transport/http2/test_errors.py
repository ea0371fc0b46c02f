"""Every reason is one that something has."""

import re

import pytest

from mods_grpc.transport.http2.errors import CloseReason, ResetReason
from tests.support.paths import ROOT

SOURCES = [path.read_text() for path in sorted((ROOT / "mods_grpc/transport").rglob("*.py")) if path.name != "errors.py"]


@pytest.mark.parametrize("reasons", [CloseReason, ResetReason])
def test_no_reason_is_listed_that_no_place_gives(reasons):
    given = set(re.findall(rf"\b{reasons.__name__}\.([A-Z_0-9]+)", "".join(SOURCES)))
    assert given == {reason.name for reason in reasons}


def test_connections_end_and_streams_are_reset_only_where_a_reason_is_reported():
    places = "".join(SOURCES)
    assert len(re.findall(r"frames\.reset\(", places)) == 1
    assert len(re.findall(r"frames\.goaway\(", places)) == 3  # twice for a graceful end, once for a fault


@pytest.mark.parametrize("reason", [*CloseReason, *ResetReason])
def test_a_reason_is_a_word_and_says_what_happened(reason):
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", reason)
    assert reason == reason.name.lower()
    assert reason.meaning.endswith(".")
