"""Short runs of the robustness benchmarks: normal clients don't fail, memory is bounded and stays flat."""

import json
import subprocess
import sys

import pytest

from benchmarks.robustness.floods import ATTACKS
from tests.support import running_server
from tests.support.models.tiny import publish_tiny
from tests.support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
MAX_MIB = 150  # resident memory of the server with a tiny model
MAX_GROWTH_MIB = 3  # from the second pass to the third of the same kind
MAX_HEALTH_MS = 200  # slowest probe
COSTLY = ("20 peers: blocks of 57 KB", "20 peers: Huffman codes of 28 KB", "20 peers: continuations")
ATTEMPTS = 3  # an attack that starves the probe does so every time, other load on the machine does not
TURNS = 3  # times that a probe waits for a core, each as long as the probe of the idle server waits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(script, folder, *arguments):
    repository, results = folder / "repository", folder / "results.json"
    publish_tiny(repository)
    options = {"repository": repository, "model": "tiny", "json": results, "transport": running_server.transport}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    subprocess.run([sys.executable, str(BENCHMARKS / script), *words, *map(str, arguments)], check=True, timeout=500)
    return json.loads(results.read_text())["rows"]


def test_under_attack_no_call_of_normal_clients_fails_memory_is_bounded_and_health_answers(tmp_path):
    delays: dict[str, float] = {}
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        phases = [*ATTACKS, *COSTLY]
        rows = run("robustness/attack.py", folder, "--seconds", 5, "--together", 15, "--phases", *phases)
        assert len(rows) == len(phases) + 3
        for row in rows:
            assert row["failures"] == "0", row
            assert row["calls"] > 0, row
            assert row["peak_rss_mib"] < MAX_MIB, row
            delay = row["health_slowest_ms"] - TURNS * row["bare_slowest_ms"]
            delays[row["phase"]] = min(delay, delays.get(row["phase"], delay))
        if max(delays.values()) < MAX_HEALTH_MS:
            break
    assert max(delays.values()) < MAX_HEALTH_MS, delays


def test_memory_stays_flat_over_streams_series_and_reloads(tmp_path):
    rows = run("robustness/soak.py", tmp_path, "--scale", 0.05)
    passes = [row for row in rows if row["phase"].endswith((", 2", ", 3"))]
    assert len(passes) == 8
    assert all(row["failures"] == "0" for row in rows)
    for second, third in zip(passes[::2], passes[1::2], strict=True):
        assert third["rss_mib"] - second["rss_mib"] < MAX_GROWTH_MIB, third
