"""Findings about windows and verdicts: constant features, a model that does not fit, and nothing judged."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.client.results import Verdict, VerdictStatus
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.ids.alerts.notice import NoticeCode
from mods_grpc.ids.health.facts import WatchedFeature
from mods_grpc.ids.health.findings import (
    HOUR_SECONDS,
    Finding,
    OpenNotices,
    format_duration,
    format_share,
    to_seconds,
    to_utc,
)
from mods_grpc.ids.windows.window import WindowBatch

CONSTANT_SECONDS = DAY_SECONDS
MIN_CONSTANT_WINDOWS = 12
FIT_HOURS = 24
MIN_FIT_HOURS = 6  # of windows, before they say whether a model fits
MAX_SHARES = {"anomalous": 0.2, "out_of_distribution": 0.1, "drift": 0.5}
DRIFT_P = 0.1  # calibrated p-values are at most this in as large a share of the windows
RELEASE = 0.5  # an open notice stays open above this part of its share
NOT_JUDGED_SECONDS = HOUR_SECONDS
_HOUR_NS = 3_600 * NANOS_PER_SECOND
_FIT_TEXTS = {
    "anomalous": "are anomalous",
    "out_of_distribution": "are far outside what the model was trained on",
    "drift": f"have a p-value of at most {DRIFT_P:g}, where {100 * DRIFT_P:.0f} % should: the calibration no longer fits",
}
_FIT_HINT = (
    "see whether an attack lasts, the local networks are right and the model is of this network; if the traffic has changed, "
    "recalibrate or retrain"
)


@dataclass(kw_only=True, slots=True)
class _Constancy:
    """The value that a feature has had in all windows since a time, and their number."""

    value: float
    since_ns: int
    last_ns: int
    windows: int = 0


class ConstantFeatures:
    """Follows which features have the same value in all windows of all series.

    Args:
        features: The model's features, in its order.
    """

    def __init__(self, features: Sequence[WatchedFeature]) -> None:
        self._features = features
        self._runs: dict[str, _Constancy] = {}

    def observe(self, windows: WindowBatch) -> None:
        """Take note of the windows of one start."""
        for feature, column in zip(self._features, windows.values.T, strict=True):
            values = column[~np.isnan(column)]
            if not values.size:
                continue
            if (values != values[0]).any():
                self._runs.pop(feature.name, None)
                continue
            run = self._runs.get(feature.name)
            if run is None or run.value != values[0]:
                run = _Constancy(value=float(values[0]), since_ns=windows.start_ns, last_ns=windows.start_ns)
                self._runs[feature.name] = run
            run.last_ns, run.windows = windows.start_ns, run.windows + 1

    def find(self) -> Iterator[tuple[str, Finding]]:
        """Yield the protocol and the finding of each feature that is constant and was not in training."""
        for feature in self._features:
            run = self._runs.get(feature.name)
            if run is None or not feature.training_minimum < feature.training_maximum:
                continue
            seconds = to_seconds(run.last_ns - run.since_ns)
            if seconds >= CONSTANT_SECONDS and run.windows >= MIN_CONSTANT_WINDOWS:
                yield (
                    feature.protocol,
                    Finding(
                        code=NoticeCode.FEATURE_CONSTANT,
                        subject=feature.name,
                        since_ns=run.since_ns,
                        message=f"{feature.name} has been {run.value:,.6g} in all windows for {format_duration(seconds)}; in "
                        f"training it was between {feature.training_minimum:,.6g} and {feature.training_maximum:,.6g}",
                        hint=f"see whether the sensor still logs all {feature.protocol} traffic; if this is usual now, retrain",
                    ),
                )

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        return {name: asdict(run) for name, run in self._runs.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned."""
        self._runs = {name: _Constancy(**run) for name, run in state.items()}


class ModelFit:
    """Follows the shares of windows of a day that say that the model does not fit the traffic.

    A window is far outside by the rule of the server: further outside the training range than that range is wide. Neither that
    nor its drift flag comes with the verdicts on windows that are not anomalous.

    Args:
        features: The model's features, in its order.
        notices: The open notices, for the hysteresis.
    """

    def __init__(self, features: Sequence[WatchedFeature], notices: OpenNotices) -> None:
        self._notices = notices
        low = np.array([feature.training_minimum for feature in features])
        high = np.array([feature.training_maximum for feature in features])
        self._lowest, self._highest = low - (high - low), high + (high - low)
        self._hours: dict[int, dict[str, int]] = {}  # numbers of windows by hour of their start
        self._all = _count_none()  # since this run began

    def observe(self, windows: WindowBatch, verdicts: Sequence[Verdict]) -> None:
        """Take note of the windows of one start and the verdicts on them."""
        scored = {verdict.series: verdict for verdict in verdicts if verdict.status is VerdictStatus.SCORED}
        if not scored:
            return
        values = windows.values[[series in scored for series in windows.series]]
        counts = {
            "scored": len(scored),
            "anomalous": sum(verdict.anomalous for verdict in scored.values()),
            "out_of_distribution": int(((values < self._lowest) | (values > self._highest)).any(axis=1).sum()),
            "drift": sum(verdict.p_value is not None and verdict.p_value <= DRIFT_P for verdict in scored.values()),
        }
        for total in (self._hours.setdefault(windows.start_ns // _HOUR_NS, _count_none()), self._all):
            for name, number in counts.items():
                total[name] += number
        newest = max(self._hours)
        self._hours = {start: counts for start, counts in self._hours.items() if start > newest - FIT_HOURS}

    def find(self) -> Iterator[Finding]:
        """Yield the findings of now."""
        if len(self._hours) < MIN_FIT_HOURS:
            return
        scored = sum(hour["scored"] for hour in self._hours.values())
        days = min(1.0, len(self._hours) / FIT_HOURS)  # an attack may fill a fifth of a few hours, but hardly of a day
        span = "day" if days >= 1 else f"{len(self._hours)} h"
        for aspect, share in MAX_SHARES.items():
            number = sum(hour[aspect] for hour in self._hours.values())
            limit = share * (RELEASE if self._notices.is_open(NoticeCode.MODEL_UNFIT, aspect) else 1.0)
            if number * days > limit * scored:
                since = next(start for start, hour in sorted(self._hours.items()) if hour[aspect])
                yield Finding(
                    code=NoticeCode.MODEL_UNFIT,
                    subject=aspect,
                    since_ns=since * _HOUR_NS,
                    message=_describe_misfit(aspect, number, scored, f"the windows of the last {span}"),
                    hint=_FIT_HINT,
                )

    def describe_all(self) -> list[str]:
        """Return what is wrong with the windows of the whole run and what to do; nothing if they are of a few hours."""
        if len(self._hours) < MIN_FIT_HOURS:
            return []
        scored = self._all["scored"]
        return [
            f"{_describe_misfit(aspect, self._all[aspect], scored, 'all windows')}; {_FIT_HINT}"
            for aspect, share in MAX_SHARES.items()
            if self._all[aspect] > share * scored
        ]

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        return {str(start): counts for start, counts in self._hours.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned."""
        self._hours = {int(start): counts for start, counts in state.items()}


def _count_none() -> dict[str, int]:
    return {"scored": 0} | dict.fromkeys(MAX_SHARES, 0)


def _describe_misfit(aspect: str, number: int, scored: int, windows: str) -> str:
    return f"{format_share(number / scored)} of {windows} {_FIT_TEXTS[aspect]} ({number:,} of {scored:,})"


class ScoringGap:
    """Follows how long nothing was judged, and why.

    Args:
        max_seconds: How long nothing may be judged.
        warm_up_seconds: How long warming up may take beyond that.
    """

    def __init__(self, *, max_seconds: float = NOT_JUDGED_SECONDS, warm_up_seconds: float = 0.0) -> None:
        self._max_seconds, self._warm_up_seconds = max_seconds, warm_up_seconds
        self._was_judged = False  # since the last `observe`
        self._since_ns = 0
        self._seconds = 0.0
        self._statuses: dict[str, int] = {}  # of windows since then
        self._reason = ""

    def observe(self, now_ns: int, elapsed_seconds: float) -> None:
        """Let time pass."""
        if self._was_judged or not self._since_ns:
            self._since_ns, self._seconds, self._was_judged = now_ns, 0.0, False
        else:
            self._seconds += elapsed_seconds

    def add_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Take note of verdicts."""
        if any(verdict.status is VerdictStatus.SCORED for verdict in verdicts):
            self._was_judged, self._statuses, self._reason = True, {}, ""
            return
        for verdict in verdicts:
            self._statuses[str(verdict.status)] = self._statuses.get(str(verdict.status), 0) + 1
            self._reason = verdict.error.message if verdict.error is not None else self._reason

    def find(self, *, is_connected: bool) -> Iterator[Finding]:
        """Yield the finding if nothing was judged for too long."""
        is_warming_up = is_connected and set(self._statuses) == {str(VerdictStatus.WARMING_UP)}
        if self._seconds < self._max_seconds + (self._warm_up_seconds if is_warming_up else 0.0):
            return
        reason, hint = self._explain(is_connected=is_connected, is_warming_up=is_warming_up)
        since = to_utc(self._since_ns).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield Finding(
            code=NoticeCode.NOT_JUDGED,
            since_ns=self._since_ns,
            message=f"nothing was judged for {format_duration(self._seconds)}, since {since}: {reason}",
            hint=hint,
        )

    def _explain(self, *, is_connected: bool, is_warming_up: bool) -> tuple[str, str]:
        if not is_connected:
            return (
                "the server can't be reached",
                "see whether it runs and --address is right; the windows wait and are judged then",
            )
        if is_warming_up:
            number = sum(self._statuses.values())
            return (
                f"the series are warming up, {number:,} windows so far",
                "wait until they have as many windows as the model takes",
            )
        if self._statuses.get(str(VerdictStatus.REJECTED)):
            return (
                f"the windows can't be judged ({self._reason or 'no reason given'})",
                "see what is missing or wrong in the logs",
            )
        if self._statuses:
            return "the windows were judged before or are late", "see whether two watches share a sensor's name"
        return "no window was complete", "see whether records come; the account says what was read and dropped"

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        return {"since": self._since_ns, "seconds": self._seconds, "statuses": dict(self._statuses), "reason": self._reason}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned."""
        self._since_ns, self._seconds = int(state["since"]), float(state["seconds"])
        self._statuses, self._reason = dict(state["statuses"]), str(state["reason"])
