"""A watch of the records of a simulated site on a real server, and what its alerts are worth."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain

from benchmarks.detection.total_budget.site import DAY, NETWORK, START
from benchmarks.detection.total_budget.site_model import NAME
from mods_grpc.alarm_rules.extent import holdoff
from mods_grpc.features import Aggregator, AggregatorOptions, GroupBy
from mods_grpc.ids.alerts.alert import Alert, AlertPhase
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.roll_up.roll_up import RollUp, RollUpOptions
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.watch.monitoring import watched_features
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.watch.scoring.options import ScoringOptions
from mods_grpc.ids.watch.scoring.scoring_client import ScoringClient
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowColumns

LATENESS_SECONDS = 60
LEARNING_DAYS = 1  # in which the common factor is still being found


class MemorySink:
    """Holds the alerts and notices that are written."""

    def __init__(self):
        self.written = []

    def write(self, alert):
        self.written.append(alert)

    def mark(self):
        return None

    def recover(self, mark):
        """Do nothing."""

    def close(self):
        """Do nothing."""


class Recorded:
    """A reader of records."""

    def __init__(self, records):
        self._records = records

    def poll(self):
        return self._records


def watch(client, records, *, total, rolls_up=True, namespace="site"):
    """Watch records at a total budget; return all alerts and notices, and the counters of the watch."""
    model = client.model(NAME)
    columns = WindowColumns(model.features)
    window, slide = round(model.window_seconds), round(model.slide_seconds)
    options = AggregatorOptions(window_seconds=window, slide_seconds=slide, group_by=GroupBy.HOST, local_networks=(NETWORK,))
    aggregator = Aggregator(columns.definition, options)
    feed = WindowFeed(Recorded(records), aggregator, columns, lateness_seconds=LATENESS_SECONDS, logs=("conn", "dns"))
    scoring = ScoringOptions(
        model=NAME, namespace=namespace, total_false_alarms_per_day=total, own_envelope=model.envelope is not None
    )
    scorer, sink = ScoringClient(client, model, scoring), MemorySink()
    alert_options = AlertOptions(sensor="site", window_seconds=window, slide_seconds=slide, significance=1.0)
    pipeline = WatchPipeline(
        scorer,
        Episodes(alert_options, feed.evidence.explain, scorer.recent_values),
        sink,
        Blindness("site", watched_features(model, columns), window_seconds=window, max_step_seconds=None),
        roll_up=RollUp(RollUpOptions(holdoff=holdoff(window, slide))) if rolls_up else None,
        evidence=feed.evidence,
        log_notices=False,
    )
    pipeline.open()
    for batches in chain(feed.poll(), feed.flush()):
        pipeline.feed(batches)
        pipeline.process()
        pipeline.check(batches[-1].start_ns if batches else 0, None)
        pipeline.process()
    pipeline.finish()
    pipeline.close()
    return sink.written, pipeline.counters


@dataclass(kw_only=True)
class Worth:
    """What alerts are worth.

    Attributes:
        days: Days that count.
        real: Alerts of an event.
        false: The other ones, in order of time.
        by_event: By event, its alerts; for those of the days that count.
        members: By alert, the number of its series at last.
    """

    days: float
    real: list[Alert] = field(default_factory=list)
    false: list[Alert] = field(default_factory=list)
    by_event: dict = field(default_factory=dict)
    members: dict = field(default_factory=dict)


def judge(written, site, days):
    """Sort the alerts that were raised after the first day into real and false ones.

    An alert is real if one of its series takes part in an event, and its window shares time with it or comes within a window
    after it, when the series falls back.
    """
    alerts = [each for each in written if isinstance(each, Alert)]
    begins = START + LEARNING_DAYS * DAY
    worth = Worth(days=days - LEARNING_DAYS, by_event={event: [] for event in site.happenings if event.begin >= begins})
    series, members = defaultdict(set), defaultdict(int)
    for alert in alerts:
        key = alert.series, alert.episode_id
        series[key] |= {alert.series, *(member.series for member in alert.members)}
        members[key] = max(members[key], alert.member_count, 1)
    for alert in alerts:
        start, end = alert.window_start.timestamp(), alert.window_end.timestamp()
        if alert.phase is not AlertPhase.START or start < begins:
            continue
        key = alert.series, alert.episode_id
        worth.members[alert.id] = members[key]
        events = [
            event
            for event in worth.by_event
            if start <= event.end + (end - start) and end > event.begin and series[key] & event.hosts
        ]
        (worth.real if events else worth.false).append(alert)
        for event in events:
            worth.by_event[event].append(alert)
    return worth
