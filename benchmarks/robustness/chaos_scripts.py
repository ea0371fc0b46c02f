"""The rows that streams of the chaos send, and the verdicts that an undisturbed server gives on them."""

import dataclasses
from dataclasses import dataclass
from itertools import product

import numpy as np

from benchmarks.support.rpc_messages import START_NANOS, draw_random_walk
from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.client import Client, Observation, ObservationBatch, Verdict

KINDS = {
    "fixed level": {"fixed_level": True},
    "adapting level": {},
    "own scales": {"fixed_level": True, "own_scales": True},
}
BURST_FACTOR = 8.0
MAX_GAP, GAP_WINDOWS = 5, 2  # rows missing; windows between gaps
BATCH_SERIES, BATCH_ROWS = 3, 5
SHOWN = ("status", "p_value", "gap_filled", "error")  # in descriptions


@dataclass(frozen=True, kw_only=True)
class Script:
    """Messages of one stream, and the verdicts on their rows, in order.

    Attributes:
        model: Name of the model.
        kind: One of KINDS.
        messages: Observations or batches.
        expected: The verdicts of an undisturbed server; empty until they were recorded.
    """

    model: str
    kind: str
    messages: tuple
    expected: tuple[Verdict, ...] = ()

    @property
    def options(self):
        """Options of `Client.stream_detect`."""
        return {"model": self.model, "explain": "all", **KINDS[self.kind]}

    def messages_after(self, rows):
        """Return the messages after the first ones, which hold so many rows."""
        for position, message in enumerate(self.messages):
            if rows <= 0:
                return self.messages[position:]
            rows -= len(message.times) if isinstance(message, ObservationBatch) else 1
        return ()


def make_scripts(manifests, rows, seed):
    """Return scripts of single rows and of batches in turn, for every model and kind. They share no series.

    Rows hold bursts, missing values and gaps that are filled, far enough apart for the history that the client library keeps:
    what a value is filled with depends on the window before it.
    """
    scripts = []
    for number, (manifest, kind, batched) in enumerate(product(manifests, KINDS, (False, True))):
        names = [f"host-{number}-{i}" for i in range(BATCH_SERIES if batched else 1)]
        series = {name: _make_rows(manifest, name, rows, seed + 100 * number + i) for i, name in enumerate(names)}
        messages = _make_batches(series) if batched else series[names[0]]
        scripts.append(Script(model=manifest.name, kind=kind, messages=tuple(messages)))
    return scripts


def _make_rows(manifest, name, rows, seed):
    rng = np.random.default_rng(seed)
    values = draw_random_walk(manifest, seed)[:rows]
    values *= np.exp(rng.normal(0, 0.05, values.shape))
    for start in rng.integers(manifest.rows, rows, max(1, rows // 60)):
        values[start : start + rng.integers(1, 5)] *= BURST_FACTOR
    first = int(rng.integers(manifest.rows, 2 * manifest.rows))
    gaps = set()
    for number, start in enumerate(range(first, rows - MAX_GAP, GAP_WINDOWS * manifest.rows)):
        if number % 2:
            values[start, rng.integers(values.shape[1])] = np.nan
        else:
            gaps |= set(range(start, start + int(rng.integers(1, MAX_GAP))))
    slide = manifest.slide_seconds * NANOS_PER_SECOND
    return [Observation(name, START_NANOS + i * slide, values[i]) for i in range(rows) if i not in gaps]


def _make_batches(series):
    """Return the rows of several series in batches of BATCH_ROWS rows each."""
    batches = []
    for start in range(0, max(map(len, series.values())), BATCH_ROWS):
        part = [row for rows in series.values() for row in rows[start : start + BATCH_ROWS]]
        names, times, values = zip(*part, strict=True)
        batches.append(ObservationBatch(series=names, times=times, values=values))
    return batches


def record_expected(scripts, port):
    """Return the scripts with the verdicts of an undisturbed server."""
    with Client(f"127.0.0.1:{port}", timeout_seconds=60) as client:
        recorded = []
        for number, script in enumerate(scripts):
            verdicts = client.stream_detect(script.messages, sensor=f"undisturbed-{number}", **script.options)
            recorded.append(dataclasses.replace(script, expected=tuple(verdicts)))
        return recorded


def differs(verdict, expected, kind, *, forgotten):
    """Return whether a verdict differs from the expected one in anything that it must not differ in.

    Args:
        verdict, expected: The verdicts.
        kind: One of KINDS.
        forgotten: Whether the server may have forgotten what a series learned and its open episode, as it does after kill -9 and
            in a new version of the model.
    """
    changes = {"model": None}
    if forgotten:
        changes |= {"episode": None, "drift": False}
        if kind == "adapting level":
            changes |= {"anomalous": False, "reason": ""}
        if kind == "own scales":
            return (verdict.series, verdict.observe_time, verdict.status) != (
                expected.series,
                expected.observe_time,
                expected.status,
            )
    return dataclasses.replace(verdict, **changes) != dataclasses.replace(expected, **changes)


def describe_difference(verdict, expected):
    """Return in a few words in which fields two verdicts differ."""
    pairs = {item.name: (getattr(verdict, item.name), getattr(expected, item.name)) for item in dataclasses.fields(Verdict)}
    changed = {name: pair for name, pair in pairs.items() if name != "model" and pair[0] != pair[1]}
    shown = "; ".join(
        f"{name} {ours!s:.40}, expected {theirs!s:.40}" for name, (ours, theirs) in changed.items() if name in SHOWN
    )
    return f"{expected.series} {expected.observe_time:%d %H:%M} in {', '.join(changed)}" + (f" ({shown})" if shown else "")
