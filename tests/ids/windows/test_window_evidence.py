"""Evidence of windows: the same live, replayed, over restarts and from the logs again."""

import dataclasses
import json
import os
import random
from datetime import UTC, datetime, timedelta

import pytest

from mods_grpc.client import FeatureInfo, FeatureVerdict, Verdict, VerdictStatus
from mods_grpc.errors import DataError
from mods_grpc.features import Aggregator, AggregatorOptions, Conn, GroupBy
from mods_grpc.ids.alerts.alert import Alert, AlertPhase
from mods_grpc.ids.evidence.evidence import Dimension
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.second_look import look_again, make_second_look
from mods_grpc.ids.windows.window import WindowColumns

SECOND = 10**9
START = 1_772_409_600
WINDOW, SLIDE = 1_200, 600
KEYS = {"failed": "conn|out_failed", "in": "conn|in_count_uid"}


def feature(name):
    protocol, column = KEYS[name].split("|")
    return FeatureInfo(
        name=name, unit="", protocol=protocol, column=column, kind="count", training_minimum=0.0, training_maximum=9.0
    )


COLUMNS = WindowColumns([feature(name) for name in KEYS])


def make_records(seed=1):
    draw = random.Random(seed)
    records = []
    for second in range(0, 7_200, 5):
        scans = 3_600 <= second < 4_500
        source = "10.0.0.5" if scans else f"10.0.0.{draw.randrange(6, 9)}"
        duration = draw.choice([None, 0, 30 * SECOND])
        records.append(
            Conn(
                ts=(START + second) * SECOND,
                uid=f"C{second}",
                orig_h=source,
                resp_h=f"192.0.2.{draw.randrange(200)}",
                resp_p=445 if scans else 443,
                proto="tcp",
                duration=duration,
                failed=scans,
                conn_state="S0" if scans else "SF",
            )
        )
    return sorted(records, key=lambda record: record.logged_ns)


class Source:
    """Records, so many at each look."""

    def __init__(self, records, size):
        self.looks = [records[start : start + size] for start in range(0, len(records), size)]

    def poll(self):
        yield from self.looks.pop(0) if self.looks else ()


def make_feed(source, group_by=GroupBy.SITE):
    options = AggregatorOptions(
        window_seconds=WINDOW, slide_seconds=SLIDE, group_by=group_by, local_networks=("10.0.0.0/8",), begin_ns=START * SECOND
    )
    return WindowFeed(source, Aggregator(COLUMNS.definition, options), COLUMNS, lateness_seconds=60)


def verdict_on(series, start_ns):
    part = FeatureVerdict(feature="failed", observed=180.0, expected=0.0, lower=0.0, upper=1.0, p_value=1e-5, share=0.9)
    return Verdict(
        series=series,
        observe_time=datetime.fromtimestamp(start_ns // SECOND, UTC),
        status=VerdictStatus.SCORED,
        anomalous=True,
        features=(part,),
    )


def episode_of(start_ns):
    return datetime.fromtimestamp(min(start_ns // SECOND, START + 3_000), UTC)


def explain_all(feed, groups, restart=None):
    """Return the evidence of each series and window that a feed yields."""
    evidence = {}
    for group in groups(feed):
        for batch in group:
            for series in batch.series:
                evidence[series, batch.start_ns] = feed.evidence.explain(
                    verdict_on(series, batch.start_ns), episode_of(batch.start_ns)
                )
            feed.evidence.finish(batch.start_ns)
            if restart is not None:
                feed = restart(feed)
    return evidence


def read_at_once(feed):
    yield from feed.poll()
    yield from feed.flush()


def read_in_looks(feed):
    while feed.reader.looks:
        yield from feed.poll()
    yield from feed.flush()


@pytest.mark.parametrize("group_by", [GroupBy.SITE, GroupBy.SUBNET, GroupBy.HOST])
def test_evidence_is_the_same_live_and_replayed(group_by):
    records = make_records()
    replayed = explain_all(make_feed(Source(records, len(records)), group_by), read_at_once)
    live = explain_all(make_feed(Source(records, 7), group_by), read_in_looks)
    assert live == replayed
    at_the_scan = [each for (_, start), each in replayed.items() if start == (START + 3_600) * SECOND and each is not None]
    source = {each.source_ip for each in at_the_scan}
    assert "10.0.0.5" in source


def test_a_restart_at_any_window_changes_no_evidence():
    records = make_records()
    expected = explain_all(make_feed(Source(records, len(records))), read_at_once)

    feed, evidence = make_feed(Source(records, 7)), {}
    while feed.reader.looks:
        for group in feed.poll():
            for batch in group:
                saved = json.loads(json.dumps(feed.state()))
                restarted = make_feed(feed.reader)
                restarted.restore(saved)
                evidence["site", batch.start_ns] = restarted.evidence.explain(
                    verdict_on("site", batch.start_ns), episode_of(batch.start_ns)
                )
                feed.evidence.explain(verdict_on("site", batch.start_ns), episode_of(batch.start_ns))
                feed.evidence.finish(batch.start_ns)
    assert evidence.items() <= expected.items()
    assert len(evidence) > 5


def test_the_evidence_is_what_counting_the_records_gives():
    records = make_records()
    evidence = explain_all(make_feed(Source(records, len(records))), read_at_once)
    for (_, start), each in evidence.items():
        inside = [r for r in records if start <= r.logged_ns < start + WINDOW * SECOND and r.failed]
        leading = each.leading
        assert leading.total == len(inside)
        source = leading.dimension(Dimension.SOURCE)
        assert (source is None) == (not inside)
        if inside:
            assert {entity.value: entity.count for entity in source.entities} == {"10.0.0.5": len(inside)}
        assert set(each.uids) <= {record.uid for record in inside}


def write_log(folder, records):
    names = ["ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "duration", "conn_state"]
    kinds = ["time", "string", "addr", "port", "addr", "port", "enum", "interval", "string"]
    lines = ["#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-", "#path\tconn"]
    lines += ["\t".join(["#fields", *names]), "\t".join(["#types", *kinds])]
    for record in records:
        duration = "-" if record.duration is None else f"{record.duration / SECOND:.6f}"
        cells = [f"{record.ts / SECOND:.6f}", record.uid, record.orig_h, "40000", record.resp_h, str(record.resp_p), "tcp"]
        lines.append("\t".join([*cells, duration, "S0" if record.failed else "SF"]))
    (folder / "conn.log").write_text("\n".join(lines) + "\n")


def make_alert(evidence, start_ns, series="site"):
    start = datetime.fromtimestamp(start_ns // SECOND, UTC)
    return Alert(
        sensor="tap",
        series=series,
        phase=AlertPhase.START,
        episode_id="e",
        window_start=start,
        window_end=start + timedelta(seconds=WINDOW),
        episode_start=episode_of(start_ns),
        peak_time=start,
        score=5.0,
        p_value=1e-5,
        peak_score=5.0,
        significance=1e-3,
        false_alarms_per_day=1.0,
        reason="",
        evidence=evidence,
    )


def test_a_second_look_into_the_logs_gives_the_same(tmp_path):
    records = make_records()
    write_log(tmp_path, records)
    evidence = explain_all(make_feed(Source(records, len(records))), read_at_once)
    start = (START + 3_600) * SECOND
    again = look_again(make_alert(evidence["site", start], start), [tmp_path], ["10.0.0.0/8"], GroupBy.SITE)
    assert dataclasses.replace(again, uids=()) == dataclasses.replace(evidence["site", start], uids=())
    assert len(again.uids) == 10


def test_a_second_look_scales_nothing_where_the_time_before_began_quietly(tmp_path):
    start = START + 3_600
    quiet = (START + 1_800, START + 1_800 + SLIDE + 60)  # the time before the alert is from then on
    records = [
        dataclasses.replace(each, failed=True, conn_state="S0")
        for each in make_records()
        if not quiet[0] - 60 <= each.ts // SECOND < quiet[1]
    ]
    write_log(tmp_path, records)
    evidence = explain_all(make_feed(Source(records, len(records))), read_at_once)["site", start * SECOND]
    again = look_again(make_alert(evidence, start * SECOND), [tmp_path], ["10.0.0.0/8"], GroupBy.SITE)
    assert again.features == evidence.features
    assert evidence.before_start == datetime.fromtimestamp(quiet[0], UTC)
    assert evidence.leading.before > 0


def test_a_second_look_at_an_alert_without_evidence_or_at_other_logs_says_so(tmp_path):
    records = make_records()
    write_log(tmp_path, records[:3])
    start = (START + 3_600) * SECOND
    evidence = explain_all(make_feed(Source(records, len(records))), read_at_once)["site", start]
    with pytest.raises(DataError, match="which aggregate"):
        look_again(make_alert(None, start), [tmp_path], ["10.0.0.0/8"], GroupBy.SITE)
    with pytest.raises(DataError, match="no record"):
        look_again(make_alert(evidence, start), [tmp_path], ["10.0.0.0/8"], GroupBy.SITE)


def test_counts_that_are_not_exact_are_counted_again_when_an_alert_is_raised(tmp_path, monkeypatch):
    records = make_records()
    write_log(tmp_path, records)
    start = (START + 3_600) * SECOND
    monkeypatch.setattr("mods_grpc.ids.evidence.counts.MAX_GROUP_ENTRIES", 8)
    monkeypatch.setattr("mods_grpc.ids.evidence.counts.HEAVY_ROWS", 8)
    evidence = explain_all(make_feed(Source(records, len(records))), read_at_once)["site", start]
    assert not evidence.is_exact
    look = make_second_look([tmp_path], ["10.0.0.0/8"], GroupBy.SITE, follows=True)
    again = look(make_alert(evidence, start))
    assert again.is_exact
    destinations = {r.resp_h for r in records if start <= r.logged_ns < start + WINDOW * SECOND and r.failed}
    assert again.leading.dimension(Dimension.DESTINATION).distinct == len(destinations)


def test_a_second_look_is_given_up_where_files_are_too_large_or_older_than_the_alert(tmp_path, monkeypatch):
    records = make_records()
    write_log(tmp_path, records)
    start = (START + 3_600) * SECOND
    evidence = explain_all(make_feed(Source(records, len(records))), read_at_once)["site", start]
    look = make_second_look([tmp_path], ["10.0.0.0/8"], GroupBy.SITE, follows=True)
    os.utime(tmp_path / "conn.log", (START - 10_000, START - 10_000))
    assert look(make_alert(evidence, start)) is None
    os.utime(tmp_path / "conn.log")
    monkeypatch.setattr("mods_grpc.ids.windows.second_look.MAX_BYTES", 100)
    assert look(make_alert(evidence, start)) is None
    assert make_second_look([tmp_path / "gone"], [], GroupBy.SITE, follows=True)(make_alert(evidence, start)) is None


def test_community_ids_are_named_beside_uids():
    records = make_records()
    for record in records:
        record.community_id = f"1:{record.uid}="
    start = (START + 3_600) * SECOND
    evidence = explain_all(make_feed(Source(records, len(records))), read_at_once)["site", start]
    assert evidence.community_ids == tuple(f"1:{uid}=" for uid in evidence.uids)
    assert len(evidence.uids) == 10


def test_a_second_look_gives_evidence_to_an_alert_of_windows_that_were_aggregated(tmp_path):
    records = make_records()
    write_log(tmp_path, records)
    start = (START + 3_600) * SECOND
    alert = dataclasses.replace(
        make_alert(None, start), features=verdict_on("site", start).features, aggregates=tuple(KEYS.items())
    )
    again = look_again(alert, [tmp_path], ["10.0.0.0/8"], GroupBy.SITE)
    assert again.source_ip == "10.0.0.5"
    assert again.leading.total == len([r for r in records if start <= r.logged_ns < start + WINDOW * SECOND and r.failed])
