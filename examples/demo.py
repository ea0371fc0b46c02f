"""The whole path on simulated traffic: from raw logs to tables, a model, a server, alerts and a picture of them.

`make demo` runs it. It replaces the folder .demo/ and writes nothing else.
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
from rich.markup import escape
from rich.table import Table

from mods_grpc.client import Client, Verdict, VerdictStatus
from mods_grpc.ids.evidence.evidence import DOMINANT_SHARE
from training.data.datapool import read_datapool
from training.data.events import LabelledEvent, read_events
from training.data.query import parse_query
from training.data.time_range import parse_interval
from training.evaluation.scoring import ReplayedEpisode, match_events
from training.simulation.zeek_logs import LOCAL_NETWORK

FOLDER = Path(".demo")
LOGS, NEW_LOGS, POOL, NEW_POOL = (FOLDER / name for name in ("logs", "new-logs", "datapool", "new-datapool"))
RUN, MODELS, ALERTS, EVE, PICTURE = (FOLDER / name for name in ("run", "models", "alerts.jsonl", "eve.json", "alarms.png"))
ALL = "<2026-01-05,2026-03-09)"
TRAIN, VALIDATION, CALIBRATION = "<2026-01-05,2026-02-07)", "<2026-02-07,2026-02-12)", "<2026-02-12,2026-02-23)"
NEW_DAY = "2026-02-22"  # the new logs begin a day before the test range, to fill the model's window
TEST = "<2026-02-23,2026-03-09)"
QUERY = "conn|in_count_uid~conn_in|out_count_uid~conn_out;dns|in_distinct_query~dns_in_distinct;ssh|in~ssh_in"
FALSE_ALARMS_PER_DAY = 0.25
WINDOW_SECONDS = 3_600
MAX_SCORE = 12  # shown in the picture
MINUTE = np.timedelta64(1, "m")

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run all steps and return the exit code."""
    started = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    print_step("1  Simulate nine weeks of Zeek logs of a small campus, with labelled events in the last two")
    run_training("simulate", "--logs", "--output", LOGS, "--time-range", ALL, "--events-time-range", TEST)
    move_new_logs()
    print_step("2  Aggregate the first seven weeks into windows of an hour, one every ten minutes")
    run_mods_grpc("aggregate", LOGS, "--output", POOL, "--local", LOCAL_NETWORK)
    print_step("3  Fit a GRU on five of them, validate and calibrate on the other two, and export it as one ONNX graph")
    ranges = ("--train-time-range", TRAIN, "--validation-time-range", VALIDATION, "--calibration-time-range", CALIBRATION)
    model = ("--model-type", "GRU", "--sequence-len", "36", "--steps-ahead", "6", "--transform", "log1p", "--blocks", "32")
    fit = ("--epochs", "25", "--epochs-patience", "5", "--batch-size", "128", "--learning-rate", "0.003")
    data = ("--datapool", POOL, "--data-select-query", QUERY, "--run", RUN)
    run_training("fit", *data, *ranges, "--test-time-range", "", *model, *fit)
    run_training("export", "--run", RUN, "--repository", MODELS, "--name", "demo", "--title", "Simulated traffic of the demo.")
    print_step("4  Serve it over gRPC, and replay the raw logs of the last two weeks as if they were live")
    with running_server(MODELS) as address:
        outputs = ("--alerts", f"jsonl:{ALERTS}", "--alerts", f"eve:{EVE}", "--ends")
        budget = ("--false-alarms-per-day", FALSE_ALARMS_PER_DAY)
        run_mods_grpc("replay", NEW_LOGS, "--server", address, "--local", LOCAL_NETWORK, "--sensor", "demo", *budget, *outputs)
        run_mods_grpc("aggregate", NEW_LOGS, "--output", NEW_POOL, "--local", LOCAL_NETWORK)
        verdicts = stream_verdicts(address)
    print_step("5  Compare the alerts with the labelled events")
    events = read_events(LOGS / "events.csv")
    rule_alerts = [line for line in read_lines(ALERTS) if line.get("kind") == "rule" and line["phase"] == "start"]
    episodes = print_report(read_alerts(ALERTS), rule_alerts, events)
    notices = sum(line.get("state") == "raised" for line in read_lines(ALERTS))
    if notices:
        console.print(f"{notices} notices say that much of a day was unusual for the model: the events last long.")
    draw_picture(verdicts, episodes, events)
    files = f"{EVE} holds the alerts in Suricata's format, {MODELS / 'demo'} the model"
    console.print(f"\nThe data are simulated. Done in {time.monotonic() - started:.0f} s. Look at {PICTURE}; {files}.")
    return 0


def print_step(text: str) -> None:
    """Print the heading of a step."""
    console.print(f"\n[bold]{text}[/bold]")


def run_training(*arguments: object) -> None:
    """Run `python -m training`."""
    run("training", *arguments)


def run_mods_grpc(*arguments: object) -> None:
    """Run `mods-grpc`."""
    run("mods_grpc", *arguments)


def run(module: str, *arguments: object) -> None:
    """Run a command and exit if it fails."""
    result = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=False)
    if result.returncode:
        sys.exit(f"demo: {module} {arguments[0]} failed with exit code {result.returncode}")


def move_new_logs() -> None:
    """Move the logs that come after the training ranges into another folder."""
    NEW_LOGS.mkdir()
    for day in sorted(LOGS.glob("2026-*")):
        if day.name > NEW_DAY:
            day.rename(NEW_LOGS / day.name)
    shutil.copytree(LOGS / NEW_DAY, NEW_LOGS / NEW_DAY)


@contextmanager
def running_server(repository: Path) -> Iterator[str]:
    """Run `mods-grpc serve` on a free port; yield its address."""
    command = [sys.executable, "-m", "mods_grpc", "serve", str(repository)]
    options = ["--address", "127.0.0.1:0", "--health-address", "127.0.0.1:0"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            console.print(f"[dim]{line.rstrip()}[/dim]", soft_wrap=True, markup=True)
            if match := re.search(r"serving .* port=(\d+)", line):
                yield f"127.0.0.1:{match[1]}"
                break
        else:
            sys.exit("demo: the server did not start")
    finally:
        process.terminate()
        process.wait(20)


def stream_verdicts(address: str) -> list[Verdict]:
    """Stream the same windows through the client, one observation at a time, and return the verdicts of the test range."""
    series = read_datapool(NEW_POOL, parse_query(QUERY), parse_interval(f"<{NEW_DAY},{TEST[12:]}"))
    times = [datetime.fromisoformat(str(t)).replace(tzinfo=UTC) for t in series.times.astype("datetime64[s]")]
    observations = [("site", when, row) for when, row in zip(times, series.values, strict=True)]
    started = time.monotonic()
    with Client(address) as client:
        stream = client.stream_detect(observations, sensor="picture", false_alarms_per_day=FALSE_ALARMS_PER_DAY, explain="all")
        verdicts = list(stream)
    seconds = time.monotonic() - started
    console.print(
        f"{len(verdicts):,} windows scored in {seconds:.1f} s, {1e6 * seconds / len(verdicts):,.0f} us each, client included"
    )
    first = parse_interval(TEST).start
    return [
        verdict for verdict in verdicts if verdict.status is VerdictStatus.SCORED and to_datetime64(verdict.observe_time) >= first
    ]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object per line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_alerts(path: Path) -> list[dict[str, Any]]:
    """Read the alerts of the test range, ends left out, each with the peak from the alert of its episode's end."""
    alerts = [alert for alert in read_lines(path) if alert.get("kind") not in {"notice", "rule"}]
    ends = {alert["episode"]["id"]: alert for alert in alerts if alert["phase"] == "end"}
    first = parse_interval(TEST).start
    raised = [alert for alert in alerts if alert["phase"] != "end" and parse_time(alert["window"]["start"]) >= first]
    return [alert | {"peak": ends.get(alert["episode"]["id"], alert)["episode"]} for alert in raised]


def parse_time(text: str) -> np.datetime64:
    """Parse a time of an alert."""
    return to_datetime64(datetime.fromisoformat(text))


def to_datetime64(when: datetime) -> np.datetime64:
    """Convert a time to the form of the series' times."""
    return np.datetime64(when.replace(tzinfo=None), "s")


def print_report(
    alerts: list[dict[str, Any]], rule_alerts: list[dict[str, Any]], events: list[LabelledEvent]
) -> list[ReplayedEpisode]:
    """Print for each alert whether it matches an event, and for each event what found it; return the alerts but for updates.

    An update counts for an event, but is neither a right nor a false alert: it repeats one. Alerts of fixed rules have no budget,
    and count for nothing.
    """
    replayed = [to_episode(alert) for alert in alerts]
    causes = [
        [event for event in events if not match_events([episode], [event], WINDOW_SECONDS).false_episodes] for episode in replayed
    ]
    for alert, episode, of_alert in zip(alerts, replayed, causes, strict=True):
        is_update = alert["phase"] == "update"
        match = ", ".join(f"[green]right: {event_name(event)}[/green]" for event in of_alert) or "[yellow]false[/yellow]"
        label = "[dim]update[/dim]" if is_update else "[red]ALERT[/red]"
        sentence = escape(alert["reason"])
        console.print(f"{label} {episode.start.astype(datetime):%a %d %b %H:%M}  {sentence}{'' if is_update else f'  {match}'}")
    for alert in rule_alerts:
        console.print(
            f"[red]RULE[/red]  {parse_time(alert['window']['end']).astype(datetime):%a %d %b %H:%M}  {escape(alert['reason'])}"
        )
    delays = match_events(replayed, events, WINDOW_SECONDS).delays_minutes
    table = Table("event", "strength", "start", "duration", "detected", "best alert", title="Injected events")
    for event, delay in zip(events, delays, strict=True):
        duration = f"{(event.end - event.start) / MINUTE:.0f} min"
        detected = "[red]missed[/red]" if delay is None else f"[green]after {delay} min[/green]"
        start_text = f"{event.start.astype(datetime):%a %d %b %H:%M}"
        of_event = [alert for alert, of_alert in zip(alerts, causes, strict=True) if event in of_alert]
        best = describe_best(of_event, event) or describe_rule(rule_alerts, event)
        table.add_row(event.kind.replace("_", " "), f"{event.strength:g}", start_text, duration, detected, best)
    console.print(table)
    console.print("An alert bears the start of its window of an hour, so its time may be before the event's.")
    interval = parse_interval(TEST)
    days = (interval.end - interval.start) / np.timedelta64(1, "D")
    strong = [delay is not None for event, delay in zip(events, delays, strict=True) if event.strength == 1.0]
    raised = [each for each in zip(alerts, replayed, causes, strict=True) if each[0]["phase"] == "start"]
    false = sum(not of_alert for _, _, of_alert in raised)
    console.print(
        f"{sum(delay is not None for delay in delays)} of {len(events)} events detected, {sum(strong)} of {len(strong)} at full "
        f"strength; {len(raised) - false} of {len(raised)} alerts were right, {false} false in {days:.0f} days, for a budget of "
        f"{FALSE_ALARMS_PER_DAY * days:.1f}."
    )
    return [episode for _, episode, _ in raised]


def to_episode(alert: dict[str, Any]) -> ReplayedEpisode:
    """Return an alert as an episode that begins with it."""
    start, peak = parse_time(alert["window"]["start"]), alert["peak"]
    peak_time = parse_time(peak["peak_time"])
    return ReplayedEpisode(start=start, end=start, peak_time=peak_time, score=peak["peak_score"], reason=alert["reason"])


def describe_best(alerts: list[dict[str, Any]], event: LabelledEvent) -> str:
    """Return feature and entities of the alert that says most of an event: a feature that it touches leads, and it names who."""
    if not alerts:
        return ""
    best = max(alerts, key=lambda alert: (leading_feature(alert) in event.features, len(name_entities(alert))))
    feature = leading_feature(best)
    color = "green" if feature in event.features else "yellow"
    return escape(" ".join([feature, *name_entities(best)])).join([f"[{color}]", f"[/{color}]"])


def describe_rule(rule_alerts: list[dict[str, Any]], event: LabelledEvent) -> str:
    """Return the name of a fixed rule whose window overlaps an event; empty if there is none."""
    for alert in rule_alerts:
        if parse_time(alert["window"]["start"]) < event.end and parse_time(alert["window"]["end"]) > event.start:
            return f"[yellow]fixed rule {escape(alert['rule'])}[/yellow]"
    return ""


def leading_feature(alert: dict[str, Any]) -> str:
    """Return the feature with the largest share of an alert's score."""
    return str(max(alert["features"], key=lambda feature: feature["share"])["feature"])


def name_entities(alert: dict[str, Any]) -> list[str]:
    """Return the hosts and the domain that stand for an alert, if one of each does."""
    evidence = alert["evidence"]
    if evidence is None or not evidence["features"] or evidence["features"][0]["is_fall"]:
        return []
    names = [f"{word} {evidence[key]}" for word, key in (("from", "source_ip"), ("to", "destination_ip")) if evidence[key]]
    for dimension in evidence["features"][0]["dimensions"]:
        if dimension["dimension"] == "domain" and dimension["entities"] and dimension["entities"][0]["share"] >= DOMINANT_SHARE:
            names.append(f"for {dimension['entities'][0]['value']}")
    return names


def event_name(event: LabelledEvent) -> str:
    """Return the name of an event's kind, and its strength."""
    return f"{event.kind.replace('_', ' ')} {event.strength:g}"


def draw_picture(verdicts: list[Verdict], episodes: list[ReplayedEpisode], events: list[LabelledEvent]) -> None:
    """Draw each feature with its forecast band, the injected events and the episodes."""
    times = np.array([to_datetime64(verdict.observe_time) for verdict in verdicts])
    names = [part.feature for part in verdicts[0].features]
    figure, axes = plt.subplots(len(names) + 1, 1, figsize=(16, 2.6 * (len(names) + 1)), sharex=True, layout="constrained")
    for index, (feature, axis) in enumerate(zip(names, axes, strict=False)):
        parts = [verdict.features[index] for verdict in verdicts]
        observed = [np.nan if part.observed is None else part.observed for part in parts]
        axis.fill_between(times, [p.lower for p in parts], [p.upper for p in parts], color="tab:blue", alpha=0.25, lw=0)
        axis.plot(times, [part.expected for part in parts], color="tab:blue", lw=0.8)
        axis.plot(times, observed, color="black", lw=0.9)
        anomalous = [
            (t, o) for t, o, v in zip(times, observed, verdicts, strict=True) if v.anomalous and v.features[index].share > 0.5
        ]
        axis.plot([t for t, _ in anomalous], [o for _, o in anomalous], ".", color="tab:red", ms=5)
        axis.set_ylabel(feature)
        axis.set_ylim(0, 1.3 * np.nanmax(observed))
    axes[-1].plot(times, np.minimum([verdict.score for verdict in verdicts], MAX_SCORE), color="black", lw=0.8)
    for episode in episodes:
        axes[-1].plot(episode.peak_time, min(episode.score, MAX_SCORE), "v", color="tab:red", ms=6)
    axes[-1].set_ylabel(f"-log10 p, at most {MAX_SCORE}")
    for axis in axes:
        for event in events:
            window = np.timedelta64(WINDOW_SECONDS, "s")
            axis.axvspan(event.start - window, event.end, color="tab:orange", alpha=0.1 + 0.2 * event.strength, lw=0)
    for event in events:
        corner = (event.start, axes[0].get_ylim()[1])
        axes[0].annotate(event_name(event), corner, rotation=30, fontsize=8, annotation_clip=False)
    title = "Simulated traffic: observed (black), forecast and band (blue), injected events (orange), alerts (red)"
    figure.suptitle(title)
    figure.savefig(PICTURE, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
