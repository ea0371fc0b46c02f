"""Measure what evidence costs a watch of ten thousand hosts: records per second, memory, and size and time of the saved state.

    python -m benchmarks.ingest.evidence
    python -m benchmarks.ingest.evidence --before ../checkout-without-evidence

Writes logs of conn, dns, http and ssl and feeds them to the windows of a watch with entities counted and without, by turns, each
time in a new process. `hostile` logs have in addition in each ten minutes 60,000 connections with peers that occur once, and
45,000 records with names, paths or server names that occur once. The state is put into text at the end of each window, as the
watch does for its checkpoint, and timed apart. Seconds are of the processor; figures are medians of the rounds, and ratios of
these. Memory is the highest that was resident.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ingest.host_logs import write_logs

ROOT = Path(__file__).parents[2]
FEED = ROOT / "benchmarks" / "ingest" / "evidence_feed.py"
WINDOWS = {"10m/10m": (600, 600), "1h/10m": (3_600, 600)}
COLUMNS = ("records/s", "memory, MB", "state, MB", "of it evidence, MB", "save, s")


def feed_once(checkout: Path, folder: Path, preset: str, window: Sequence[int], variant: str) -> dict[str, float]:
    """Feed logs in a new process and return what it cost."""
    words = [sys.executable, str(FEED), str(folder), preset, *map(str, window), variant]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    output = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    measured: dict[str, float] = json.loads(output)
    return measured


def measure(
    variants: dict[str, tuple[Path, str]], folder: Path, preset: str, window: Sequence[int], rounds: int
) -> dict[str, dict[str, float]]:
    """Return the medians of each variant, measured by turns."""
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, (checkout, word) in variants.items():
            costs[name].append(feed_once(checkout, folder, preset, window, word))
    return {name: {key: statistics.median(each[key] for each in of_name) for key in COLUMNS} for name, of_name in costs.items()}


def main() -> None:
    """Measure all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=10_000, help="local hosts (default %(default)s)")
    parser.add_argument("--per-host", type=int, default=10, help="records of each in ten minutes (default %(default)s)")
    parser.add_argument("--panes", type=int, default=16, help="times ten minutes (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default %(default)s)")
    parser.add_argument("--presets", nargs="+", default=["outward", "site"], help="columns (default: outward site)")
    parser.add_argument("--windows", nargs="+", default=list(WINDOWS), choices=WINDOWS, help="length/slide (default: both)")
    parser.add_argument("--before", type=Path, help="a checkout to compare with, instead of not counting entities")
    arguments = parser.parse_args()
    without = (arguments.before.resolve() if arguments.before else ROOT, "without")
    variants = {"without": without, "with evidence": (ROOT, "with")}
    print(f"| logs | columns | windows | | {' | '.join(COLUMNS)} |\n|---|---|---|---|{'---:|' * len(COLUMNS)}")
    for kind in ("ordinary", "hostile"):
        with tempfile.TemporaryDirectory() as folder:
            sizes = {"hosts": arguments.hosts, "per_host": arguments.per_host, "panes": arguments.panes}
            write_logs(Path(folder), **sizes, is_hostile=kind == "hostile")
            for preset in arguments.presets:
                for name in arguments.windows:
                    costs = measure(variants, Path(folder), preset, WINDOWS[name], arguments.rounds)
                    for variant, cost in costs.items():
                        cells = [f"{cost[key]:,.0f}" if key == "records/s" else f"{cost[key]:.1f}" for key in COLUMNS]
                        print(f"| {kind} | {preset} | {name} | {variant} | {' | '.join(cells)} |")
                    base, cost = costs["without"], costs["with evidence"]
                    ratios = [f"{cost[key] / base[key]:.2f}" if key != "of it evidence, MB" else "" for key in COLUMNS]
                    print(f"| | | | ratio | {' | '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
