"""The whole path on simulated traffic: simulate, fit, export, serve, stream, alert, and a picture of it.

Run by `make demo`. Writes everything below .demo/, which is made anew.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

from mods_grpc.client import Client, EpisodePhase, Verdict, VerdictStatus
from training.datapool import read_datapool
from training.evaluate import Episode, found_events
from training.events import Event, read_events
from training.query import parse_query
from training.series import Series
from training.timerange import parse_interval

FOLDER = Path(".demo")
POOL, RUN, MODELS, PICTURE = FOLDER / "datapool", FOLDER / "run", FOLDER / "models", FOLDER / "alarms.png"
ALL = "<2026-01-05,2026-03-09)"
TRAIN, VALIDATION, CALIBRATION = "<2026-01-05,2026-02-07)", "<2026-02-07,2026-02-12)", "<2026-02-12,2026-02-23)"
TEST = "<2026-02-23,2026-03-09)"
QUERY = "conn|in_count_uid~conn_in|out_count_uid~conn_out;dns|in_distinct_query~dns_in_distinct;ssh|in~ssh_in"
FALSE_ALARMS_PER_DAY = 0.25
HIGHEST_SCORE = 12  # of the picture
MINUTE = np.timedelta64(1, "m")

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the steps; return the exit status."""
    started = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    step("1  Simulate nine weeks of a campus network, with labelled events in the last two")
    training("simulate", "--output", POOL, "--time-range", ALL, "--events-time-range", TEST)
    step("2  Fit a GRU on the first five weeks; validate and calibrate on the next two")
    ranges = ("--train-time-range", TRAIN, "--validation-time-range", VALIDATION, "--calibration-time-range", CALIBRATION)
    model = ("--model-type", "GRU", "--sequence-len", "36", "--steps-ahead", "6", "--transform", "log1p", "--blocks", "32")
    fit = ("--epochs", "25", "--epochs-patience", "5", "--batch-size", "128", "--learning-rate", "0.003")
    training("fit", "--datapool", POOL, "--run", RUN, *ranges, "--test-time-range", "", *model, *fit)
    step("3  Export it as one ONNX graph, with calibration and digests")
    training("export", "--run", RUN, "--repository", MODELS, "--name", "demo", "--title", "Simulated traffic of the demo.")
    step("4  Serve it over gRPC and stream the last two weeks through it, one observation at a time")
    series = read_datapool(POOL, parse_query(QUERY), parse_interval(ALL))
    test = series.slice(parse_interval(TEST))
    with server(MODELS) as address:
        verdicts = stream(address, series, test)
    step("5  What was found")
    report(verdicts, series, test, read_events(POOL / "events.csv"))
    console.print(f"\nDone in {time.monotonic() - started:.0f} s. Look at {PICTURE}; the model is in {MODELS / 'demo'}.")
    return 0


def step(text: str) -> None:
    """Say what comes."""
    console.print(f"\n[bold]{text}[/bold]")


def training(*arguments: object) -> None:
    """Run `python -m training`."""
    command = [sys.executable, "-m", "training", *(str(argument) for argument in arguments)]
    result = subprocess.run(command, check=False)
    if result.returncode:
        sys.exit(f"demo: python -m training {arguments[0]} failed with exit status {result.returncode}")


@contextmanager
def server(repository: Path) -> Iterator[str]:
    """Run `mods-grpc serve` on a free port; yield its address."""
    command = [sys.executable, "-m", "mods_grpc.cli", "serve", str(repository)]
    options = ["--address", "127.0.0.1:0", "--health-address", "127.0.0.1:0"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            console.print(f"[dim]{line.rstrip()}[/dim]", soft_wrap=True, markup=True)
            if found := re.search(r"serving .* port=(\d+)", line):
                yield f"127.0.0.1:{found[1]}"
                break
        else:
            sys.exit("demo: the server did not start")
    finally:
        process.terminate()
        process.wait(20)


def stream(address: str, series: Series, test: slice) -> list[Verdict]:
    """Stream the test range, the rows before it as its history, and print alerts as they come."""
    history = slice(test.start - 36 - 1, test.stop)
    times = [datetime.fromisoformat(str(t)).replace(tzinfo=UTC) for t in series.times[history].astype("datetime64[s]")]
    observations = [("campus", when, row) for when, row in zip(times, series.values[history], strict=True)]
    verdicts = []
    started = time.monotonic()
    with Client(address) as client:
        judged = client.stream_detect(
            observations, sensor="demo", false_alarms_per_day=FALSE_ALARMS_PER_DAY, explain="all", impute_rows=6
        )
        for verdict in judged:
            verdicts.append(verdict)
            if verdict.episode and verdict.episode.phase is EpisodePhase.STARTED:
                console.print(f"[red]ALERT[/red] {verdict.observe_time:%a %d %b %H:%M}  {verdict.reason}")
    took = time.monotonic() - started
    console.print(
        f"{len(verdicts):,} observations judged in {took:.1f} s, {1e6 * took / len(verdicts):,.0f} us each, client included"
    )
    return [verdict for verdict in verdicts if verdict.status is VerdictStatus.SCORED]


def episodes_of(verdicts: list[Verdict]) -> list[Episode]:
    """Gather the alarms: start, peak and last anomalous row of each."""
    found: dict[str, Episode] = {}
    for verdict in verdicts:
        if verdict.episode and verdict.anomalous:
            start, peak = (naive(t) for t in (verdict.episode.start_time, verdict.episode.peak_time))
            end = naive(verdict.observe_time)
            found[verdict.episode.id] = Episode(start=start, peak_time=peak, end=end, score=verdict.episode.peak_score)
    return list(found.values())


def naive(when: datetime) -> np.datetime64:
    """Return a time as the data writes it."""
    return np.datetime64(when.replace(tzinfo=None), "s")


def report(verdicts: list[Verdict], series: Series, test: slice, events: list[Event]) -> None:
    """Say which events were found and how many alarms were false, and draw the picture."""
    episodes = episodes_of(verdicts)
    findings = found_events(episodes, events, series.window_seconds)
    table = Table("event", "strength", "began", "lasted", "found", title="Injected events")
    for event, delay in zip(events, findings.delays_minutes, strict=True):
        lasted = f"{(event.end - event.start) / MINUTE:.0f} min"
        found = "[red]missed[/red]" if delay is None else f"[green]after {delay} min[/green]"
        began = f"{event.start.astype(datetime):%a %d %b %H:%M}"
        table.add_row(event.kind.replace("_", " "), f"{event.strength:g}", began, lasted, found)
    console.print(table)
    hits = sum(delay is not None for delay in findings.delays_minutes)
    days = (test.stop - test.start) * series.slide_seconds / 86_400
    strong = [d is not None for e, d in zip(events, findings.delays_minutes, strict=True) if e.strength == 1.0]
    console.print(
        f"{hits} of {len(events)} events found, {sum(strong)} of {len(strong)} at full strength; "
        f"{findings.false_episodes} false alarms in {days:.0f} days, budget {FALSE_ALARMS_PER_DAY * days:.1f}."
    )
    draw(verdicts, episodes, events, series.window_seconds)


def draw(verdicts: list[Verdict], episodes: list[Episode], events: list[Event], window_seconds: int) -> None:
    """Draw each feature with its forecast band, the injected events and the alarms."""
    times = np.array([naive(verdict.observe_time) for verdict in verdicts])
    names = [part.feature for part in verdicts[0].features]
    figure, axes = plt.subplots(len(names) + 1, 1, figsize=(16, 2.6 * (len(names) + 1)), sharex=True, layout="constrained")
    for j, (name, axis) in enumerate(zip(names, axes, strict=False)):
        parts = [verdict.features[j] for verdict in verdicts]
        observed = [np.nan if part.observed is None else part.observed for part in parts]
        axis.fill_between(times, [p.lower for p in parts], [p.upper for p in parts], color="tab:blue", alpha=0.25, lw=0)
        axis.plot(times, [part.expected for part in parts], color="tab:blue", lw=0.8)
        axis.plot(times, observed, color="black", lw=0.9)
        loud = [(t, o) for t, o, v in zip(times, observed, verdicts, strict=True) if v.anomalous and v.features[j].share > 0.5]
        axis.plot([t for t, _ in loud], [o for _, o in loud], ".", color="tab:red", ms=5)
        axis.set_ylabel(name)
        axis.set_ylim(0, 1.3 * np.nanmax(observed))
    axes[-1].plot(times, np.minimum([verdict.score for verdict in verdicts], HIGHEST_SCORE), color="black", lw=0.8)
    for episode in episodes:
        axes[-1].plot(episode.peak_time, min(episode.score, HIGHEST_SCORE), "v", color="tab:red", ms=6)
    axes[-1].set_ylabel(f"-log10 p, cut at {HIGHEST_SCORE}")
    for axis in axes:
        for event in events:
            window = np.timedelta64(window_seconds, "s")
            axis.axvspan(event.start - window, event.end, color="tab:orange", alpha=0.1 + 0.2 * event.strength, lw=0)
    for event in events:
        axes[0].annotate(
            f"{event.kind.replace('_', ' ')} {event.strength:g}",
            (event.start, axes[0].get_ylim()[1]),
            rotation=30,
            fontsize=8,
            annotation_clip=False,
        )
    title = "Simulated traffic: observed (black), forecast and band (blue), injected events (orange), alarms (red)"
    figure.suptitle(title)
    figure.savefig(PICTURE, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
