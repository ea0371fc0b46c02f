"""Prometheus metrics of a watch, read from its parts when Prometheus asks.

No metric has a label by series, sensor or address, because their number is unbounded. Labels known at the start begin at 0.
"""

from collections.abc import Callable, Iterable, Mapping
from time import time

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.client.results import VerdictStatus
from mods_grpc.features.records import PROTOCOLS
from mods_grpc.ids.alerts.notice import NoticeCode
from mods_grpc.ids.rules.rule import RULE_NAMES
from mods_grpc.ids.watch.monitoring import WatchParts
from mods_grpc.version import __version__


class WatchCollector(Collector):
    """Collects the metrics of a watch.

    Args:
        parts: What they are read from.
        wall_clock: Returns seconds since 1970.
    """

    def __init__(self, parts: WatchParts, wall_clock: Callable[[], float] = time) -> None:
        self._parts = parts
        self._wall_clock = wall_clock

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        yield from self._collect_reading()
        yield from self._collect_judging()
        yield from self._collect_health()

    def _collect_reading(self) -> Iterable[Metric]:
        counters, feed = self._parts.counters, self._parts.feed
        records = dict.fromkeys(PROTOCOLS, 0) | counters.records_by_protocol
        yield _counter("mods_watch_records", "Records read, by protocol.", "protocol", records)
        dropped = feed.aggregator.counters
        reasons = {
            "malformed": counters.rejected,
            "late": dropped.late,
            "remote": dropped.remote,
            "before_begin": dropped.before_begin,
            "over_series_limit": dropped.over_series_limit,
        }
        yield _counter("mods_watch_dropped", "Lines and records that do not count, by reason.", "reason", reasons)
        yield _gauge("mods_watch_ahead_records", "Records held because their time is far ahead.", feed.watermark.pending)
        newest = counters.newest_ns / NANOS_PER_SECOND
        if newest:
            yield _gauge("mods_watch_newest_record_timestamp_seconds", "When the newest record was logged.", newest)
            yield _gauge("mods_watch_lag_seconds", "Age of the newest record.", max(0.0, self._wall_clock() - newest))

    def _collect_judging(self) -> Iterable[Metric]:
        counters = self._parts.pipeline.counters
        statuses = dict.fromkeys(map(str, VerdictStatus), 0) | counters.by_status
        by_status = {status.lower(): number for status, number in statuses.items()}
        yield _counter("mods_watch_windows", "Windows, by the status of their verdict.", "status", by_status)
        yield _counter("mods_watch_anomalous_windows", "Anomalous windows.", None, {"": counters.anomalous})
        by_severity = {severity.name.lower(): number for severity, number in counters.by_severity.items()}
        yield _counter(
            "mods_watch_alerts", "Alerts raised, their updates and ends included, by severity.", "severity", by_severity
        )
        yield _counter(
            "mods_watch_suppressed",
            "Windows, and ports, peers and domains of fixed rules, that a rule of suppression muted, by rule.",
            "rule",
            self._parts.pipeline.suppression.list_hits(),
        )
        yield _counter(
            "mods_watch_withheld",
            "Anomalous windows that raised no further alert because their episode had raised too many.",
            None,
            {"": counters.withheld},
        )
        yield _counter(
            "mods_watch_rolled_up",
            "Alerts that were not raised because they joined another with the same cause.",
            None,
            {"": counters.rolled_up},
        )
        yield from self._collect_feedback()
        rules = self._parts.pipeline.rules
        by_rule = dict.fromkeys(RULE_NAMES, 0) | ({} if rules is None else rules.counters.alerts)
        yield _counter("mods_watch_rule_alerts", "Alerts of fixed rules, by rule.", "rule", by_rule)
        yield _gauge(
            "mods_watch_open_rule_episodes", "Open episodes of fixed rules.", 0 if rules is None else rules.open_episodes
        )
        dropped = {"late": 0, "over_limit": 0}
        if rules is not None:
            dropped = {"late": rules.counters.late, "over_limit": sum(rules.over_limit.values())}
        yield _counter("mods_watch_rule_dropped", "Records and hosts that a fixed rule left out, by reason.", "reason", dropped)
        yield _gauge("mods_watch_open_episodes", "Open episodes of anomalous windows.", self._parts.pipeline.open_episodes)
        yield _gauge("mods_watch_pending_windows", "Batches of windows that wait to be judged.", self._parts.pipeline.pending)

    def _collect_feedback(self) -> Iterable[Metric]:
        if (feedback := self._parts.pipeline.feedback) is None:
            return
        summary = feedback.summarise()
        verdicts = {"false_alarm": summary.false_alarms, "confirmed": summary.confirmed, "unmarked": summary.unmarked}
        family = GaugeMetricFamily(
            "mods_watch_judged_alerts", "Alerts of the last 30 days, by what was said of them.", labels=("verdict",)
        )
        for verdict, number in verdicts.items():
            family.add_metric((verdict,), number)
        yield family
        rates = {"marked": summary.false_alarms_per_day, "at_most": summary.upper_per_day}
        if summary.budget_per_day is not None:
            rates["budget"] = summary.budget_per_day
        rate = GaugeMetricFamily(
            "mods_watch_false_alarms_per_day",
            "False alarms per day over the last 30 days: marked, at most if all unmarked ones were false, and the budget.",
            labels=("bound",),
        )
        for bound, value in rates.items():
            rate.add_metric((bound,), value)
        yield rate

    def _collect_health(self) -> Iterable[Metric]:
        parts = self._parts
        info = GaugeMetricFamily("mods_watch_info", "Version of the watch and its model.", labels=("version", "model", "digest"))
        info.add_metric((__version__, parts.model.name, parts.model.digest), 1)
        yield info
        open_notices = dict.fromkeys(map(str, NoticeCode), 0)
        for notice in parts.pipeline.open_notices:
            open_notices[notice.code] += 1
        family = GaugeMetricFamily("mods_watch_open_notices", "Notices that monitoring is impaired, by code.", labels=("code",))
        for code, number in open_notices.items():
            family.add_metric((code,), number)
        yield family
        waiting = GaugeMetricFamily(
            "mods_watch_undelivered", "Alerts and notices that wait for a destination.", labels=("destination",)
        )
        for destination, number in parts.undelivered().items():
            waiting.add_metric((destination,), number)
        yield waiting
        yield _gauge(
            "mods_watch_server_connected", "Whether the server answered the last time.", float(parts.pipeline.is_connected)
        )
        if (saved := parts.saved_at()) is not None:
            yield _gauge("mods_watch_checkpoint_age_seconds", "Age of the checkpoint.", max(0.0, self._wall_clock() - saved))
        if (polled := parts.polled_at()) is not None:
            yield _gauge("mods_watch_last_poll_timestamp_seconds", "When the logs were last read to their end.", polled)


def make_registry(parts: WatchParts) -> CollectorRegistry:
    """Return a registry of the metrics of a watch."""
    registry = CollectorRegistry()
    registry.register(WatchCollector(parts))
    return registry


def _counter(name: str, text: str, label: str | None, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=() if label is None else (label,))
    for value, number in values.items():
        family.add_metric(() if label is None else (value,), number)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
