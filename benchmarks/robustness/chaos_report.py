"""Judges a run of the chaos: what the server, the streams and the callers must have done, and the tables of the report."""

import dataclasses
from collections import Counter
from dataclasses import dataclass

import numpy as np

from benchmarks.robustness.chaos_callers import KINDS as CALLER_KINDS
from benchmarks.robustness.chaos_network import KINDS as NETWORK_FAULTS
from benchmarks.robustness.chaos_streams import ANSWER_SECONDS

DOWN = ("drain", "drain, two signals", "drain, one model late", "kill", "stop", "ended by itself")
FORGETTING = ("kill", "drain, two signals", "ended by itself")
MAX_RATIO = 1.5  # p99 of well-behaved callers, beside calm phases
MAX_RESUME_SECONDS = 2 * ANSWER_SECONDS + 1.0  # twice the time limit for an answer, and the pauses between attempts
MAX_HOLE_SECONDS = 30.0 + 2.0  # after which the server must have noticed
MAX_MIB_PER_MINUTE, MAX_GROWTH_HANDLES = 0.5, 5
MIN_SAMPLES = 4  # for a slope
MIN_JUDGED_LIFE_MINUTES = 5.0  # of a life; below, the growth of memory is not judged
SETTLING_SHARE = 0.5  # of a life, in which memory is not judged: the C library's allocator takes ten minutes to reach its level
EXAMPLES, ERROR_LINES = 5, 20


@dataclass(kw_only=True)
class Run:
    """Everything that was recorded in a run. Times are monotonic.

    Attributes:
        phases: (begin, end, whether it was calm).
        events, faults, errors, lines: Of `ChaosServer`.
        sessions: Of all streams.
        calls: (begin, seconds), `(n, 2)`, by kind of caller. failures: (begin, end, error) of Forecast.
        innocents: (begin, end, lost, calls, why) of raw clients beside misbehaving ones. peers: seconds by kind.
        network: Faults by kind. holes: (time, seconds until the server ended its side, negative if it had not yet).
        samples: (time, pid, least MiB, file descriptors and threads) of each calm phase.
    """

    phases: list
    events: list
    faults: list
    errors: list
    lines: Counter
    sessions: list
    calls: dict
    failures: list
    innocents: list
    peers: dict
    network: dict
    holes: list
    samples: list

    @property
    def down(self):
        """Events in which the server can't answer."""
        return [event for event in self.events if event.kind in DOWN]

    def is_down(self, begin, end):
        """Return whether the server could not answer in some part of an interval."""
        return any(event.overlaps(begin, end) for event in self.down)

    def latencies(self, kind, *, calm):
        """Return the seconds of the calls that lie within phases of one sort, less those in which the server was down."""
        calls = self.calls[kind]
        keep = np.zeros(len(calls), np.bool_)
        begin, end = calls[:, 0], calls.sum(axis=1)
        for phase_begin, phase_end, phase_calm in self.phases:
            if phase_calm == calm:
                keep |= (begin >= phase_begin) & (end <= phase_end)
        for event in self.down:
            keep &= (end < event.begin) | (begin > event.end)
        return calls[keep, 1]


def find_faults(run, *, judges_speed):
    """Return what went wrong in words; empty if nothing did."""
    faults = [*run.faults, *_judge_sessions(run), *_judge_calls(run), *_judge_memory(run)]
    if run.errors:
        faults.append(f"{len(run.errors)} lines of errors in the log: " + " | ".join(run.errors[:ERROR_LINES]))
    if judges_speed:
        faults += [
            f"p99 of {row['caller']} is {row['ratio']} times that of calm phases (the machine's: {row['machine']})"
            for row in measure_speed(run)
            if row["ratio"] > MAX_RATIO and row["ratio"] > MAX_RATIO * row["machine"]
        ]
    return faults


def _judge_sessions(run):
    faults = []
    for session in run.sessions:
        end = session.ended or float("inf")
        name = f"{session.sensor} ({session.model}, {session.kind}, {session.route})"
        crossed = [event for event in run.events if event.overlaps(session.started, end)]
        forgotten = any(
            event.kind in FORGETTING or (event.kind == "new version" and event.model == session.model) for event in crossed
        )
        count, first = (session.wrong, session.first_wrong) if forgotten else (session.changed, session.first_changed)
        if count:
            met = ", ".join(f"{event.kind} at {event.begin - session.started:.1f} s" for event in crossed)
            faults.append(f"{name}: {count} of {session.rows} verdicts differ, first at {first}; met {met}")
        if session.failure:
            faults.append(f"{name}: the client library gave up after {session.rows} rows: {session.failure}")
        late = [event for event in crossed if event.kind == "drain, one model late" and event.model == session.model]
        if any(not any(event.overlaps(time, time) for event in late) for time in session.absences):
            faults.append(f"{name}: the server did not know the model")
        for begin, stop, error in session.refusals:
            if session.route == "straight" and not run.is_down(begin, stop):
                faults.append(f"{name}: could not be opened: {error}")
        for begin, seconds in session.waits:
            down = _down_seconds(run, begin, begin + seconds)
            allowed = down + MAX_RESUME_SECONDS
            if seconds > allowed:
                faults.append(f"{name}: waited {seconds:.1f} s for a verdict, {down:.1f} s of them the server was down")
    return faults


def _down_seconds(run, begin, end):
    return sum(min(event.end, end) - max(event.begin, begin) for event in run.down if event.overlaps(begin, end))


def _judge_calls(run):
    faults = []
    for begin, end, error in run.failures:
        if not run.is_down(begin, end):
            faults.append(f"a Forecast failed while the server was up: {error}")
    lost = [(count, why) for begin, end, count, _, why in run.innocents if count and not run.is_down(begin, end)]
    if lost:
        reasons = Counter(why for _, why in lost).most_common(EXAMPLES)
        text = "; ".join(f"{count} times {why}" for why, count in reasons)
        faults.append(f"{sum(count for count, _ in lost)} innocent calls were lost on {len(lost)} connections: {text}")
    for begin, seconds in run.holes:
        age = abs(seconds)
        if age > MAX_HOLE_SECONDS + _down_seconds(run, begin, begin + age):
            faults.append(f"the server kept a silently lost connection for {age:.0f} s")
    return faults


def find_longest_life(run):
    """Return the samples of the process that lived through most calm phases, less those of its first quarter."""
    pids = Counter(pid for _, pid, *_ in run.samples)
    longest = max(pids, key=pids.__getitem__)
    samples = [sample for sample in run.samples if sample[1] == longest]
    return samples[len(samples) // 4 :]


def measure_growth(run):
    """Return minutes, and by a line the growth in MiB, file descriptors and threads in the second half of the longest life.

    None if that is short.
    """
    samples = np.array(find_longest_life(run), float)
    if len(samples):
        samples = samples[samples[:, 0] >= samples[0, 0] + SETTLING_SHARE * (samples[-1, 0] - samples[0, 0])]
    if len(samples) < MIN_SAMPLES:
        return None
    minutes = (samples[:, 0] - samples[0, 0]) / 60
    slopes = np.polyfit(minutes, samples[:, 2:], 1)[0]
    return minutes[-1], *(slopes * minutes[-1])


def _judge_memory(run):
    growth = measure_growth(run)
    if growth is None or growth[0] < MIN_JUDGED_LIFE_MINUTES:
        return []
    minutes, mib, files, threads = growth
    faults = []
    if mib > MAX_MIB_PER_MINUTE * minutes:
        faults.append(f"memory grew by {mib:.1f} MiB in {minutes:.0f} minutes")
    if files > MAX_GROWTH_HANDLES or threads > MAX_GROWTH_HANDLES:
        faults.append(f"in {minutes:.0f} minutes {files:.1f} file descriptors and {threads:.1f} threads were added")
    return faults


def measure_speed(run):
    """Return a row per kind of caller: calls, p50 and p99 in ms in calm phases and in the chaos, and the ratio of p99."""
    rows = []
    for kind in CALLER_KINDS:
        calm, chaos = (run.latencies(kind, calm=calm) for calm in (True, False))
        if not len(calm) or not len(chaos):
            continue
        (calm_p50, calm_p99), (p50, p99) = (np.quantile(part, [0.5, 0.99]) * 1e3 for part in (calm, chaos))
        rows.append(
            {
                "caller": kind,
                "calm calls": len(calm),
                "calm p50 ms": round(calm_p50, 2),
                "calm p99 ms": round(calm_p99, 2),
                "chaos calls": len(chaos),
                "p50 ms": round(p50, 2),
                "p99 ms": round(p99, 2),
                "ratio": round(p99 / calm_p99, 2),
            }
        )
    machine = next((row["ratio"] for row in rows if row["caller"] == "echo"), 1.0)
    return [row | {"machine": machine} for row in rows]


def print_report(run, faults):
    """Print the tables of the page."""
    minutes = (run.phases[-1][1] - run.phases[0][0]) / 60
    rows, complete = sum(session.rows for session in run.sessions), sum(session.complete for session in run.sessions)
    print(f"{minutes:.0f} minutes. {len(run.sessions):,} streams, {complete:,} to their end, {rows:,} verdicts acknowledged.\n")
    speed = measure_speed(run)
    if speed:
        _print_table(["caller", "calm calls", "calm p50 ms", "calm p99 ms", "chaos calls", "p50 ms", "p99 ms", "ratio"], speed)
    kinds = Counter(event.kind for event in run.events)
    statuses = {name: count for name, count in run.lines.items() if name.startswith("exit status")}
    _print_counts("done to the server", kinds)
    _print_counts("how drains ended", statuses)
    _print_counts("faults of the network", {kind: run.network.get(kind, 0) for kind in NETWORK_FAULTS})
    _print_counts("seconds of misbehaving peers", {name: round(seconds) for name, seconds in run.peers.items()})
    calls = sum(count for *_, count, _ in run.innocents)
    lost = sum(lost for begin, end, lost, *_ in run.innocents if not run.is_down(begin, end))
    print(f"\nCalls beside cancelled ones on a connection, and of h2load: {calls:,}, lost while the server was up: {lost:,}.")
    waits = [seconds - _down_seconds(run, begin, begin + seconds) for session in run.sessions for begin, seconds in session.waits]
    print(f"Longest wait for a verdict, less the time the server was down: {max(waits, default=0.0):.1f} s.")
    ended = [seconds for _, seconds in run.holes if seconds > 0]
    print(f"Silently lost connections that the server ended: {len(ended)}, after {max(ended, default=0.0):.0f} s at most.")
    growth = measure_growth(run)
    if growth:
        life, mib, files, threads = growth
        first, last = (find_longest_life(run)[i] for i in (0, -1))
        print(
            f"The longest life of a process, {(last[0] - first[0]) / 60:.0f} minutes: {first[2]:.0f} MiB, {first[3]} file "
            f"descriptors and {first[4]} threads at its first calm phase, {last[2]:.0f}, {last[3]} and {last[4]} at its last; by "
            f"a line through its second half, {life:.0f} minutes, {mib:+.1f} MiB, {files:+.1f} and {threads:+.1f}."
        )
    print(f"\nFaults: {len(faults)}." + "".join(f"\n- {fault}" for fault in faults))


def _print_table(names, rows):
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in names) + " |")


def _print_counts(title, counts):
    print(f"\n| {title} | |\n|---|---|")
    for name, count in counts.items():
        print(f"| {name} | {count:,} |")


def to_json(run, faults):
    """Return the results as a dictionary for JSON."""
    return {
        "faults": faults,
        "speed": measure_speed(run),
        "verdicts": sum(session.rows for session in run.sessions),
        "streams": len(run.sessions),
        "complete": sum(session.complete for session in run.sessions),
        "events": [dataclasses.asdict(event) for event in run.events if event.end != float("inf")],
        "log": dict(run.lines),
        "samples": run.samples,
    }
