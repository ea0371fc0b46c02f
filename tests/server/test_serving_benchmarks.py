"""The promises under load, by the benchmarks that measure them, in short: nobody else fails, memory is bounded and stays flat."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import publish_tiny

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LARGEST_MIB = 150  # of the process, with a model of next to nothing
GROWTH_MIB = 3  # from one pass to the next of the same kind, once the first took what it needs
HEALTH_MS = 200  # for the slowest probe
TURNS = 3  # of the interpreter that a probe needs: each waits for a core as long as a server that does nothing else waits once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(script, folder, *arguments):
    repository, found = folder / "repository", folder / "found.json"
    publish_tiny(repository)
    where = ["--repository", str(repository), "--model", "tiny", "--json", str(found)]
    subprocess.run([sys.executable, str(BENCHMARKS / script), *where, *map(str, arguments)], check=True, timeout=500)
    return json.loads(found.read_text())["rows"]


def test_no_attack_fails_a_call_of_others_or_takes_more_memory_than_it_may_and_health_answers(tmp_path):
    rows = run("attack.py", tmp_path, "--seconds", 5, "--together", 15)
    assert len(rows) == 9
    for row in rows:
        assert row["failures"] == "0", row
        assert row["calls"] > 0, row
        assert row["peak_rss_mib"] < LARGEST_MIB, row
        assert row["health_slowest_ms"] < HEALTH_MS + TURNS * row["bare_slowest_ms"], row


def test_memory_stays_flat_over_streams_series_and_reloads(tmp_path):
    rows = run("soak.py", tmp_path, "--scale", 0.05)
    passes = [row for row in rows if row["phase"].endswith((", 2", ", 3"))]
    assert len(passes) == 8
    assert all(row["failures"] == "0" for row in rows)
    for second, third in zip(passes[::2], passes[1::2], strict=True):
        assert third["rss_mib"] - second["rss_mib"] < GROWTH_MIB, third
