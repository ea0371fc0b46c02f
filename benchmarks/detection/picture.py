"""Draw the picture of docs/results/detection-picture.md: two weeks of simulated traffic, scored row by row by the shipped model.

Prints how many events are detected with an adapting and with a fixed level, and how many episodes are over two hours from any.

Usage: python benchmarks/detection/picture.py [--repository exported] [--output docs/results/detection.png]
"""

import argparse
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.artifact import read_artifact
from mods_grpc.detection import Detector, Monitor, significance_from_budget
from training.data.time_range import parse_interval
from training.export.onnx_forecaster import open_model
from training.simulation.aggregates import SimulationConfig, simulate

BUDGET = 0.25  # false alarms per day, as in the demo
WHOLE = parse_interval("<2026-01-05,2026-03-16)")
EVENTS = parse_interval("<2026-03-02,2026-03-16)")
HOLDOFF_ROWS = 6


def score_events(repository, simulation, adapt):
    """Return the rows of the two weeks with events: score, level as a score, and whether anomalous."""
    artifact = read_artifact(repository, "campus", 1)
    manifest, detector = artifact.manifest, Detector.from_manifest(artifact.manifest)
    table = detector.table(manifest.rows)
    slot = table.allocate()
    holdoff = manifest.calibration.holdoff_rows
    monitor = Monitor(
        detector, open_model(artifact), table, slide_seconds=manifest.slide_seconds, holdoff_rows=holdoff, adapt=adapt
    )
    level = significance_from_budget(BUDGET, manifest.slide_seconds, detector.calibration)
    rows = np.flatnonzero(simulation.times >= EVENTS.start - np.timedelta64(7, "D"))
    verdicts = np.empty((len(rows), 3))
    for i, row in enumerate(rows):
        level_score = -np.log10(level * table.factor[slot])
        time = simulation.times[row : row + 1].astype("datetime64[s]").astype(np.int64) * NANOS_PER_SECOND
        batch = monitor.observe(
            np.array([slot]), time, simulation.counts[[row]], reported=np.ones(1, np.bool_), significance=level, impute_rows=0
        )
        verdicts[i] = batch.score[0], level_score, batch.anomalous[0]
    shown = simulation.times[rows] >= EVENTS.start
    return rows[shown], *verdicts[shown].T


def count_events(simulation, rows, anomalous):
    """Return how many events were detected, and how many episodes are over two hours from any."""
    times, hour = simulation.times[rows], np.timedelta64(3600, "s")
    touched = [(times >= event.start - hour) & (times < event.end) for event in simulation.events]
    near = np.any([(times >= e.start - 2 * hour) & (times < e.end + 2 * hour) for e in simulation.events], axis=0)
    isolated = np.flatnonzero((anomalous > 0) & ~near)
    return sum((anomalous[rows_of] > 0).any() for rows_of in touched), len(isolated) and 1 + int(
        (np.diff(isolated) > HOLDOFF_ROWS).sum()
    )


def draw_picture(simulation, rows, score, level, anomalous, path):
    times = simulation.times[rows]
    figure, (above, below) = plt.subplots(2, 1, figsize=(11, 5), sharex=True, layout="constrained")
    above.plot(times, simulation.counts[rows][:, 1] / 1000, linewidth=0.8, color="0.35")
    above.set_ylabel("conn_out, thousands per hour")
    below.plot(times, score, linewidth=0.8, color="0.35", label="score: -log10 p")
    below.plot(times, level, linewidth=1.2, color="tab:orange", label="level of the series")
    below.plot(times[anomalous > 0], score[anomalous > 0], ".", markersize=4, color="tab:red", label="anomalous")
    below.set_ylabel("score")
    for axes in (above, below):
        for event in simulation.events:
            axes.axvspan(event.start, event.end, color="tab:blue", alpha=0.2, linewidth=0)
    below.fill_between([], [], color="tab:blue", alpha=0.2, label="injected event")
    below.legend(loc="upper right", fontsize=8, ncols=4)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/results/detection.png"), help="picture to write (default: %(default)s)"
    )
    arguments = parser.parse_args()
    simulation = simulate(SimulationConfig(interval=WHOLE, events_interval=EVENTS, seed=1))
    for title, adapt in (("fixed", False), ("adapting", True)):
        scored = score_events(arguments.repository, simulation, adapt)
        detected, false = count_events(simulation, scored[0], scored[3])
        print(f"level {title}: {detected} of {len(simulation.events)} events detected, {false} false episodes")
    draw_picture(simulation, *scored, arguments.output)


if __name__ == "__main__":
    main()
