"""A short chaos: whatever befalls server, network and peers, every row is judged once and as if nothing had happened."""

import json
import subprocess
import sys

import pytest

from tests.support import running_server
from tests.support.models.tiny import publish_tiny
from tests.support.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_in_a_chaos_every_row_is_judged_once_and_no_innocent_call_is_lost(tmp_path):
    repository, results = tmp_path / "repository", tmp_path / "results.json"
    for name in ("one", "two", "three"):
        publish_tiny(repository, name)
    options = {"minutes": 0.5, "rows": 120, "repository": repository, "json": results, "transport": running_server.transport}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    subprocess.run([sys.executable, str(ROOT / "benchmarks/robustness/chaos.py"), *words], check=True, timeout=280)
    result = json.loads(results.read_text())
    assert result["verdicts"] > 1_000
    assert sum(event["kind"].startswith(("drain", "kill")) for event in result["events"]) >= 2
    assert result["faults"] == []
