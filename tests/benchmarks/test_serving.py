"""The promises under load, by the benchmarks that measure them, in short: nobody else fails, memory is bounded and stays flat."""

import json
import subprocess
import sys

import pytest

from tests.support import running_server
from tests.support.models.tiny import publish_tiny
from tests.support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
MAX_MIB = 150  # of the process, with a model of next to nothing
GROWTH_MIB = 3  # from one pass to the next of the same kind, once the first took what it needs
HEALTH_MS = 200  # for the slowest probe
TRIES = 3  # an attack that starves health does so each time, other work on the machine does not
TURNS = 3  # of the interpreter that a probe needs: each waits for a core as long as a server that does nothing else waits once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(script, folder, *arguments):
    repository, results = folder / "repository", folder / "found.json"
    publish_tiny(repository)
    where = ["--repository", str(repository), "--model", "tiny", "--json", str(results), "--transport", running_server.transport]
    subprocess.run([sys.executable, str(BENCHMARKS / script), *where, *map(str, arguments)], check=True, timeout=500)
    return json.loads(results.read_text())["rows"]


def test_no_attack_fails_a_call_of_others_or_takes_more_memory_than_it_may_and_health_answers(tmp_path):
    late: dict[str, float] = {}
    for attempt in range(TRIES):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        rows = run("robustness/attack.py", folder, "--seconds", 5, "--together", 15)
        assert len(rows) == 9
        for row in rows:
            assert row["failures"] == "0", row
            assert row["calls"] > 0, row
            assert row["peak_rss_mib"] < MAX_MIB, row
            beyond = row["health_slowest_ms"] - TURNS * row["bare_slowest_ms"]
            late[row["phase"]] = min(beyond, late.get(row["phase"], beyond))
        if max(late.values()) < HEALTH_MS:
            break
    assert max(late.values()) < HEALTH_MS, late


def test_memory_stays_flat_over_streams_series_and_reloads(tmp_path):
    rows = run("robustness/soak.py", tmp_path, "--scale", 0.05)
    passes = [row for row in rows if row["phase"].endswith((", 2", ", 3"))]
    assert len(passes) == 8
    assert all(row["failures"] == "0" for row in rows)
    for second, third in zip(passes[::2], passes[1::2], strict=True):
        assert third["rss_mib"] - second["rss_mib"] < GROWTH_MIB, third
