"""Feed logs to the windows of a live watch once, and print what it cost as JSON: what `benchmarks.ingest.evidence` runs.

    python benchmarks/ingest/evidence_feed.py FOLDER outward 600 600 with

The last word says whether entities are counted. It runs with any checkout on the path, also one that knows no evidence.
"""

import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from mods_grpc.client import FeatureInfo
from mods_grpc.features import Aggregator, AggregatorOptions, GroupBy
from mods_grpc.features.presets import PRESETS
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowColumns

try:
    from mods_grpc.ids.watch.collector import collecting_rarely
except ImportError:  # an earlier checkout
    from contextlib import nullcontext as collecting_rarely

LATENESS_SECONDS = 600


def make_feed(folder: Path, preset: str, window_seconds: int, slide_seconds: int) -> WindowFeed:
    """Return the feed of a watch with the columns of a preset."""
    features = [
        FeatureInfo(
            name=key,
            unit="",
            protocol=key.partition("|")[0],
            column=key.partition("|")[2],
            kind="count",
            training_minimum=0.0,
            training_maximum=9.0,
        )
        for key in PRESETS[preset].keys
    ]
    columns = WindowColumns(features)
    options = AggregatorOptions(
        window_seconds=window_seconds,
        slide_seconds=slide_seconds,
        group_by=GroupBy.HOST if PRESETS[preset].is_by_host else GroupBy.SITE,
        local_networks=("10.0.0.0/8",),
    )
    reader = LogReader(folder, protocols=columns.definition.protocols)
    return WindowFeed(reader, Aggregator(columns.definition, options), columns, lateness_seconds=LATENESS_SECONDS)


def measure(feed: WindowFeed, *, has_evidence: bool) -> dict[str, Any]:
    """Read all records; after each window that is complete, put the state into text."""
    evidence = getattr(feed, "evidence", None) if has_evidence else None
    if not has_evidence:
        feed.aggregator.observe = None
    windows, saving, largest, of_evidence, saves = 0, 0.0, 0, 0, []
    started_at = time.process_time()
    for batches in feed.poll():
        if not batches:
            continue
        windows += sum(len(batch.series) for batch in batches)
        if evidence is not None:
            evidence.finish(batches[-1].start_ns)
        begun_at = time.process_time()
        state = feed.state()
        if not has_evidence:
            state.pop("evidence", None)
        largest = max(largest, len(json.dumps(state, separators=(",", ":"))))
        saves.append(time.process_time() - begun_at)
        of_evidence = max(of_evidence, len(json.dumps(state.get("evidence"), separators=(",", ":"))))
        del state
        saving += time.process_time() - begun_at
    seconds = time.process_time() - started_at - saving
    return {
        "records/s": feed.records / seconds,
        "memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "state, MB": largest / 1e6,
        "of it evidence, MB": of_evidence / 1e6,
        "save, s": statistics.median(saves),
        "windows": windows,
    }


def main() -> None:
    """Measure once."""
    folder, preset, window, slide, variant = sys.argv[1:]
    feed = make_feed(Path(folder), preset, int(window), int(slide))
    with collecting_rarely():
        print(json.dumps(measure(feed, has_evidence=variant == "with")))


if __name__ == "__main__":
    main()
