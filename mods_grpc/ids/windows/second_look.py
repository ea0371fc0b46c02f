"""A second look into the logs of an alert: its evidence from every record, where counts that were kept may have been cut."""

import logging
import stat
from collections.abc import Callable, Sequence
from math import gcd
from pathlib import Path

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.features import Aggregator, AggregatorOptions, Definition, GroupBy
from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.evidence.counts import EntityCounts
from mods_grpc.ids.evidence.evidence import MAX_UIDS, Evidence
from mods_grpc.ids.evidence.explanation import Explainer, UnusualFeature
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.windows.window_evidence import is_fall

logger = logging.getLogger(__name__)


MAX_BYTES = 64 << 20
"""Of the files of logs, as they are on disk, that are read again when an alert is raised."""


def make_second_look(
    paths: Sequence[Path], local_networks: Sequence[str], group_by: GroupBy, *, follows: bool
) -> Callable[[Alert], Evidence | None]:
    """Return what looks into logs again when an alert is raised whose counts are not exact.

    It returns None where the files hold too much, or nothing of the alert any more.

    Args:
        paths: Log files, or folders of them.
        local_networks: Local networks in CIDR form.
        group_by: What a series stands for.
        follows: Whether the logs are still written, so that files that did not change since a time hold nothing later.
    """

    def look(alert: Alert) -> Evidence | None:
        begin = alert.window_start if alert.evidence is None else alert.evidence.before_start or alert.window_start
        try:
            files = _list_files(paths, begin.timestamp() if follows else 0.0)
            return None if files is None else look_again(alert, files, local_networks, group_by)
        except (OSError, DataError) as error:
            logger.info("second_look_failed", extra={"series": alert.series, "error": str(error)})
            return None

    return look


def _list_files(paths: Sequence[Path], changed_since: float) -> list[Path] | None:
    """Return the files that changed since a time, seconds since 1970; None if they are larger than `MAX_BYTES`."""
    files, total = [], 0
    candidates = (file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]))
    for file in candidates:
        status = file.stat()
        if stat.S_ISREG(status.st_mode) and status.st_mtime >= changed_since:
            total += status.st_size
            files.append(file)
        if total > MAX_BYTES:
            return None
    return files


def look_again(alert: Alert, paths: Sequence[Path], local_networks: Sequence[str], group_by: GroupBy) -> Evidence:
    """Return the evidence of an alert as all records of the logs give it.

    Args:
        alert: The alert; its evidence says which features to look at, and with which time to compare. One of windows that were
            aggregated before has none, and is compared with the window before.
        paths: Log files, or folders of them, that hold the window and the time before.
        local_networks: Local networks in CIDR form, as the watch was told.
        group_by: What a series stands for, as the watch was told.

    Raises:
        DataError: The alert says of no feature which aggregate it is, or the logs hold no record of its window.
    """
    unusual = _list_unusual(alert)
    if not unusual:
        raise DataError("the alert says of no feature which aggregate of logs it is, so there is nothing to look for")
    start, end = round(alert.window_start.timestamp()), round(alert.window_end.timestamp())
    before, before_end = start - (end - start), start
    if alert.evidence is not None and alert.evidence.before_start is not None and alert.evidence.before_end is not None:
        before, before_end = (round(when.timestamp()) for when in (alert.evidence.before_start, alert.evidence.before_end))
    begin = min(start, before)
    definition = Definition.of([feature.key for feature in unusual])
    # each pane holds some uids of a value, so that there are several panes
    options = AggregatorOptions(
        window_seconds=end - start,
        slide_seconds=gcd(end - start, start, begin, before_end, max(1, (end - start) // MAX_UIDS)),
        group_by=group_by,
        local_networks=tuple(local_networks),
        begin_ns=begin * NANOS_PER_SECOND,
    )
    counts = EntityCounts(definition, options.pane_ns, max_entries=None, by_host=group_by is GroupBy.HOST)
    _count(paths, Aggregator(definition, options), counts, begin * NANOS_PER_SECOND, end * NANOS_PER_SECOND)
    explainer = Explainer(counts, (end - start) * NANOS_PER_SECOND)
    evidence = explainer.explain(alert.series, start * NANOS_PER_SECOND, before_end * NANOS_PER_SECOND, unusual)
    if evidence is None or not any(feature.total or feature.before for feature in evidence.features):
        raise DataError("the logs hold no record of the alert's window, nor of the time before")
    return evidence


def _list_unusual(alert: Alert) -> list[UnusualFeature]:
    """Return the features to look at: those of the evidence, or without any those of the verdict."""
    if alert.evidence is not None and alert.evidence.features:
        return [
            UnusualFeature(
                name=feature.feature, key=f"{feature.protocol}|{feature.column}", share=1 / (place + 1), is_fall=feature.is_fall
            )
            for place, feature in enumerate(alert.evidence.features)
        ]
    aggregates = dict(alert.aggregates)
    return [
        UnusualFeature(name=each.feature, key=aggregates[each.feature], share=each.share, is_fall=is_fall(each))
        for each in alert.features
        if each.feature in aggregates
    ]


def _count(paths: Sequence[Path], aggregator: Aggregator, counts: EntityCounts, begin_ns: int, end_ns: int) -> None:
    """Count the records of a time. Where the logs begin before it, they hold all of it, however quiet its beginning is."""
    aggregator.observe = counts.observe
    holds_all = False
    with LogReader(paths, protocols=aggregator.definition.protocols) as reader:
        for record in reader.poll():
            holds_all = holds_all or record.ts <= begin_ns
            if record.ts < end_ns:
                aggregator.add(record)
    counts.count_pending()
    if holds_all and counts.first_pane is not None:
        counts.first_pane = begin_ns // counts.pane_ns
