"""The whole path on simulated traffic: raw logs, tables, model, server, alerts, and a picture of it.

Run by `make demo`. Writes everything below .demo/, which is made anew.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

from mods_grpc.client import Client, Verdict, VerdictStatus
from training.data.datapool import read_datapool
from training.data.events import Event, read_events
from training.data.query import parse_query
from training.data.time_range import parse_interval
from training.evaluation.scoring import Episode, found_events
from training.simulation.zeek_logs import LOCAL_NETWORK

FOLDER = Path(".demo")
LOGS, NEW_LOGS, POOL, NEW_POOL = (FOLDER / name for name in ("logs", "new-logs", "datapool", "new-datapool"))
RUN, MODELS, ALERTS, EVE, PICTURE = (FOLDER / name for name in ("run", "models", "alerts.jsonl", "eve.json", "alarms.png"))
ALL = "<2026-01-05,2026-03-09)"
TRAIN, VALIDATION, CALIBRATION = "<2026-01-05,2026-02-07)", "<2026-02-07,2026-02-12)", "<2026-02-12,2026-02-23)"
NEW_DAY = "2026-02-22"  # the new logs begin a day before the test, to fill the model's window
TEST = "<2026-02-23,2026-03-09)"
QUERY = "conn|in_count_uid~conn_in|out_count_uid~conn_out;dns|in_distinct_query~dns_in_distinct;ssh|in~ssh_in"
FALSE_ALARMS_PER_DAY = 0.25
WINDOW_SECONDS = 3_600
HIGHEST_SCORE = 12  # of the picture
MINUTE = np.timedelta64(1, "m")

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the steps; return the exit status."""
    started = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    step("1  Simulate nine weeks of Zeek logs of a small campus, with labelled events in the last two")
    training("simulate", "--logs", "--output", LOGS, "--time-range", ALL, "--events-time-range", TEST)
    keep_new_logs_apart()
    step("2  Aggregate the first seven weeks into windows of an hour, one every ten minutes")
    mods_grpc("aggregate", LOGS, "--output", POOL, "--local", LOCAL_NETWORK)
    step("3  Fit a GRU on five of them, validate and calibrate on the other two, and export it as one ONNX graph")
    ranges = ("--train-time-range", TRAIN, "--validation-time-range", VALIDATION, "--calibration-time-range", CALIBRATION)
    model = ("--model-type", "GRU", "--sequence-len", "36", "--steps-ahead", "6", "--transform", "log1p", "--blocks", "32")
    fit = ("--epochs", "25", "--epochs-patience", "5", "--batch-size", "128", "--learning-rate", "0.003")
    data = ("--datapool", POOL, "--data-select-query", QUERY, "--run", RUN)
    training("fit", *data, *ranges, "--test-time-range", "", *model, *fit)
    training("export", "--run", RUN, "--repository", MODELS, "--name", "demo", "--title", "Simulated traffic of the demo.")
    step("4  Serve it over gRPC, and replay the raw logs of the last two weeks as they would have come")
    with server(MODELS) as address:
        outputs = ("--alerts", f"jsonl:{ALERTS}", "--alerts", f"eve:{EVE}", "--ends")
        budget = ("--false-alarms-per-day", FALSE_ALARMS_PER_DAY)
        mods_grpc("replay", NEW_LOGS, "--server", address, "--local", LOCAL_NETWORK, "--sensor", "demo", *budget, *outputs)
        mods_grpc("aggregate", NEW_LOGS, "--output", NEW_POOL, "--local", LOCAL_NETWORK)
        verdicts = stream(address)
    step("5  What it told, and which alarms were right")
    events = read_events(LOGS / "events.csv")
    episodes = report(told(ALERTS), events)
    draw(verdicts, episodes, events)
    files = f"{EVE} has the alerts as Suricata writes its own, {MODELS / 'demo'} the model"
    console.print(f"\nThe data are simulated. Done in {time.monotonic() - started:.0f} s. Look at {PICTURE}; {files}.")
    return 0


def step(text: str) -> None:
    """Say what comes."""
    console.print(f"\n[bold]{text}[/bold]")


def training(*arguments: object) -> None:
    """Run `python -m training`."""
    run("training", *arguments)


def mods_grpc(*arguments: object) -> None:
    """Run `mods-grpc`."""
    run("mods_grpc.cli.main", *arguments)


def run(module: str, *arguments: object) -> None:
    """Run a command; leave if it fails."""
    result = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=False)
    if result.returncode:
        sys.exit(f"demo: {module} {arguments[0]} failed with exit status {result.returncode}")


def keep_new_logs_apart() -> None:
    """Move the logs that are not to be learnt from into a folder of their own."""
    NEW_LOGS.mkdir()
    for day in sorted(LOGS.glob("2026-*")):
        if day.name > NEW_DAY:
            day.rename(NEW_LOGS / day.name)
    shutil.copytree(LOGS / NEW_DAY, NEW_LOGS / NEW_DAY)


@contextmanager
def server(repository: Path) -> Iterator[str]:
    """Run `mods-grpc serve` on a free port; yield its address."""
    command = [sys.executable, "-m", "mods_grpc.cli.main", "serve", str(repository)]
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


def stream(address: str) -> list[Verdict]:
    """Stream the same windows from Python, one observation at a time, with all that a picture needs of each."""
    series = read_datapool(NEW_POOL, parse_query(QUERY), parse_interval(f"<{NEW_DAY},{TEST[12:]}"))
    times = [datetime.fromisoformat(str(t)).replace(tzinfo=UTC) for t in series.times.astype("datetime64[s]")]
    observations = [("site", when, row) for when, row in zip(times, series.values, strict=True)]
    started = time.monotonic()
    with Client(address) as client:
        judged = client.stream_detect(observations, sensor="picture", false_alarms_per_day=FALSE_ALARMS_PER_DAY, explain="all")
        verdicts = list(judged)
    took = time.monotonic() - started
    console.print(f"{len(verdicts):,} windows judged in {took:.1f} s, {1e6 * took / len(verdicts):,.0f} us each, client included")
    first = parse_interval(TEST).start
    return [found for found in verdicts if found.status is VerdictStatus.SCORED and naive(found.observe_time) >= first]


def told(path: Path) -> list[dict[str, Any]]:
    """Read the alerts of the test range, one an episode: the alert that began it, with the peak that its end told."""
    alerts = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    over = {alert["episode"]["id"]: alert for alert in alerts if alert["phase"] == "end"}
    begun = [
        alert for alert in alerts if alert["phase"] == "start" and at(alert["window"]["start"]) >= parse_interval(TEST).start
    ]
    return [alert | {"peak": over.get(alert["episode"]["id"], alert)["episode"]} for alert in begun]


def at(text: str) -> np.datetime64:
    """Read the time of an alert."""
    return naive(datetime.fromisoformat(text))


def naive(when: datetime) -> np.datetime64:
    """Return a time as the data writes it."""
    return np.datetime64(when.replace(tzinfo=None), "s")


def report(alerts: list[dict[str, Any]], events: list[Event]) -> list[Episode]:
    """Say of each alarm whether it was right, and of each event whether it was found; return the alarms."""
    episodes = []
    for alert in alerts:
        start, peak = at(alert["window"]["start"]), alert["peak"]
        found = {"peak_time": at(peak["peak_time"]), "score": peak["peak_score"], "reason": alert["reason"]}
        episodes.append(Episode(start=start, end=start, **found))
        causes = [event for event in events if found_events(episodes[-1:], [event], WINDOW_SECONDS).false_episodes == 0]
        right = ", ".join(f"[green]right: {name(event)}[/green]" for event in causes) or "[yellow]false[/yellow]"
        console.print(f"[red]ALERT[/red] {start.astype(datetime):%a %d %b %H:%M}  {alert['reason']}  {right}")
    findings = found_events(episodes, events, WINDOW_SECONDS)
    table = Table("event", "strength", "began", "lasted", "found", title="Injected events")
    for event, delay in zip(events, findings.delays_minutes, strict=True):
        lasted = f"{(event.end - event.start) / MINUTE:.0f} min"
        found = "[red]missed[/red]" if delay is None else f"[green]after {delay} min[/green]"
        began = f"{event.start.astype(datetime):%a %d %b %H:%M}"
        table.add_row(event.kind.replace("_", " "), f"{event.strength:g}", began, lasted, found)
    console.print(table)
    hits = sum(delay is not None for delay in findings.delays_minutes)
    interval = parse_interval(TEST)
    days = (interval.end - interval.start) / np.timedelta64(1, "D")
    strong = [d is not None for e, d in zip(events, findings.delays_minutes, strict=True) if e.strength == 1.0]
    console.print(
        f"{hits} of {len(events)} events found, {sum(strong)} of {len(strong)} at full strength; "
        f"{len(episodes) - findings.false_episodes} of {len(episodes)} alarms were right, {findings.false_episodes} false in "
        f"{days:.0f} days, where the budget allows {FALSE_ALARMS_PER_DAY * days:.1f}."
    )
    return episodes


def name(event: Event) -> str:
    """Name an event."""
    return f"{event.kind.replace('_', ' ')} {event.strength:g}"


def draw(verdicts: list[Verdict], episodes: list[Episode], events: list[Event]) -> None:
    """Draw each feature with its forecast band, the injected events and the alarms."""
    times = np.array([naive(verdict.observe_time) for verdict in verdicts])
    names = [part.feature for part in verdicts[0].features]
    figure, axes = plt.subplots(len(names) + 1, 1, figsize=(16, 2.6 * (len(names) + 1)), sharex=True, layout="constrained")
    for j, (feature, axis) in enumerate(zip(names, axes, strict=False)):
        parts = [verdict.features[j] for verdict in verdicts]
        observed = [np.nan if part.observed is None else part.observed for part in parts]
        axis.fill_between(times, [p.lower for p in parts], [p.upper for p in parts], color="tab:blue", alpha=0.25, lw=0)
        axis.plot(times, [part.expected for part in parts], color="tab:blue", lw=0.8)
        axis.plot(times, observed, color="black", lw=0.9)
        loud = [(t, o) for t, o, v in zip(times, observed, verdicts, strict=True) if v.anomalous and v.features[j].share > 0.5]
        axis.plot([t for t, _ in loud], [o for _, o in loud], ".", color="tab:red", ms=5)
        axis.set_ylabel(feature)
        axis.set_ylim(0, 1.3 * np.nanmax(observed))
    axes[-1].plot(times, np.minimum([verdict.score for verdict in verdicts], HIGHEST_SCORE), color="black", lw=0.8)
    for episode in episodes:
        axes[-1].plot(episode.peak_time, min(episode.score, HIGHEST_SCORE), "v", color="tab:red", ms=6)
    axes[-1].set_ylabel(f"-log10 p, cut at {HIGHEST_SCORE}")
    for axis in axes:
        for event in events:
            window = np.timedelta64(WINDOW_SECONDS, "s")
            axis.axvspan(event.start - window, event.end, color="tab:orange", alpha=0.1 + 0.2 * event.strength, lw=0)
    for event in events:
        corner = (event.start, axes[0].get_ylim()[1])
        axes[0].annotate(name(event), corner, rotation=30, fontsize=8, annotation_clip=False)
    title = "Simulated traffic: observed (black), forecast and band (blue), injected events (orange), alarms (red)"
    figure.suptitle(title)
    figure.savefig(PICTURE, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
