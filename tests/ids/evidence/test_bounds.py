"""Counts under load: within the stated error, and within bounds however many different values, series and panes come."""

import json
from collections import Counter

import numpy as np
import pytest

from mods_grpc.features import Conn, Definition, Dns
from mods_grpc.ids.evidence.counts import EntityCounts, Side
from mods_grpc.ids.evidence.dimensions import RECORDS
from mods_grpc.ids.evidence.evidence import Dimension

PANE = 600 * 10**9
OWN = Side("conn", is_own=True)
KEYS = ("conn|out_failed", "conn|out_max_host_bytes", "dns|out_nxdomain")
RECORDS_OF_PANE = 12_000


def draw_zipf(draw):
    return draw.zipf(1.2, RECORDS_OF_PANE) % 100_000


def draw_all_distinct(_draw):
    return np.arange(RECORDS_OF_PANE)


def draw_late_heavy_hitter(draw):
    values = np.arange(RECORDS_OF_PANE)
    late = draw.choice(np.arange(RECORDS_OF_PANE * 3 // 4, RECORDS_OF_PANE), 1_500, replace=False)
    values[late] = 999_999
    return values


def observe(counts, peers, series="site", pane=7, first=0):
    for number, peer in enumerate(peers.tolist() if isinstance(peers, np.ndarray) else peers):
        record = Conn(
            ts=0, uid=f"C{first + number}", orig_h=series, resp_h=f"192.0.2.{peer}", resp_p=443, orig_bytes=peer % 7, failed=True
        )
        counts.observe(record, "out", (series,), None, pane)


def make_counts(**options):
    return EntityCounts(Definition.of(KEYS), PANE, **options)


@pytest.mark.parametrize("draw_peers", [draw_zipf, draw_all_distinct, draw_late_heavy_hitter])
@pytest.mark.parametrize("seed", range(3))
def test_counts_are_within_the_stated_error_of_exact_ones(draw_peers, seed):
    peers, counts = draw_peers(np.random.default_rng(seed)), make_counts()
    observe(counts, peers)
    counts.close_before(8 * PANE)
    counts.count_pending()
    exact = Counter(f"192.0.2.{peer}" for peer in peers.tolist())
    totals = counts.totals(OWN, Dimension.DESTINATION, "site", "out", RECORDS, 7 * PANE, 8 * PANE)
    assert len(totals.counts) <= 1_024 * len(counts.plans[OWN].weights)
    for text, count in exact.items():
        seen = totals.counts.get(text, 0.0)
        assert seen <= count <= seen + totals.max_error
    assert sum(totals.counts.values()) + totals.dropped == RECORDS_OF_PANE
    leader, highest = exact.most_common(1)[0]
    if highest > totals.max_error:
        assert max(totals.counts, key=totals.counts.__getitem__) == leader


def test_counts_of_ten_thousand_hosts_are_exact():
    draw, counts, exact = np.random.default_rng(1), make_counts(by_host=True), Counter()
    hosts, peers = draw.integers(0, 10_000, 40_000).tolist(), (draw.zipf(1.3, 40_000) % 500).tolist()
    for number, (host, peer) in enumerate(zip(hosts, peers, strict=True)):
        exact[f"10.0.{host}", f"192.0.2.{peer}"] += 1
        observe(counts, [peer], series=f"10.0.{host}", first=number)
    counts.close_before(8 * PANE)
    counts.count_pending()
    for host in range(0, 10_000, 97):
        series = f"10.0.{host}"
        totals = counts.totals(OWN, Dimension.DESTINATION, series, "out", RECORDS, 7 * PANE, 8 * PANE)
        assert totals.counts == {peer: count for (name, peer), count in exact.items() if name == series}
        assert totals.max_error == 0
        assert all(len(flows) == min(10, totals.counts[peer]) for peer, flows in totals.flows.items())


def test_a_group_that_grows_heavy_is_the_same_as_one_that_is_counted_at_once(monkeypatch):
    peers = np.random.default_rng(4).zipf(1.4, 5_000) % 300
    results = []
    for settled in (65_536, 500):
        monkeypatch.setattr("mods_grpc.ids.evidence.rows.MIN_SETTLED", settled)
        counts = make_counts()
        observe(counts, peers)
        observe(counts, range(5), series="other")
        counts.close_before(8 * PANE)
        counts.count_pending()
        results.append(
            [
                counts.totals(OWN, Dimension.DESTINATION, series, "out", RECORDS, 7 * PANE, 8 * PANE).counts
                for series in ("site", "other")
            ]
        )
    assert results[0] == results[1]
    assert sum(results[0][0].values()) == 5_000


def test_hours_of_different_peers_names_and_series_need_no_more_room(monkeypatch):
    monkeypatch.setattr("mods_grpc.ids.evidence.counts._MIN_TEXTS", 4_000)
    limit = 6_000
    counts = make_counts(max_entries=limit, by_host=True)
    held, texts = [], []
    for pane in range(36):
        observe(counts, range(pane * 10_000, pane * 10_000 + 3_000), series="10.0.0.1", pane=pane, first=pane * 9_000)
        for number in range(2_500):
            name = f"{pane}-{number}-{'x' * 300}.example"
            counts.observe(Dns(ts=0, orig_h="a", resp_h="b", query=name, qtype="A"), "out", ("10.0.0.1",), pane, pane)
            observe(counts, [number], series=f"10.{pane}.{number}", pane=pane)
        counts.close_before((pane + 1) * PANE)
        counts.count_pending()
        counts.forget_before((pane - 3) * PANE, uids_ns=pane * PANE)
        held.append(sum(map(len, counts._rows.values())))
        texts.append(len(counts._values))
    assert max(held) <= limit
    assert max(texts[18:]) <= 1.5 * max(texts[6:18])
    totals = counts.totals(OWN, Dimension.DESTINATION, "10.35.7", "out", RECORDS, 35 * PANE, 36 * PANE)
    assert totals.counts == {"192.0.2.7": 1}


def test_the_oldest_panes_go_first_when_rows_of_the_next_windows_need_the_room():
    counts = make_counts(max_entries=5_000, by_host=True)
    for pane in range(4):
        for host in range(2_000):
            observe(counts, [host], series=f"10.0.{host}", pane=pane)
        counts.close_before((pane + 1) * PANE)
        counts.count_pending()
        counts.forget_before(0, uids_ns=pane * PANE)
    assert counts.covers(2 * PANE, 4 * PANE) == 1
    assert counts.covers(0, 2 * PANE) == 0


def test_series_that_no_longer_fit_as_rows_are_counted():
    counts = make_counts(max_entries=1_000, by_host=True)
    for host in range(100):
        observe(counts, range(40), series=f"10.0.{host}", pane=0)
    counts.close_before(PANE)
    counts.count_pending()
    assert sum(map(len, counts._rows.values())) <= 1_000
    totals = counts.totals(OWN, Dimension.DESTINATION, "10.0.3", "out", RECORDS, 0, PANE)
    assert sum(totals.counts.values()) + totals.dropped == 40


def test_what_is_saved_often_while_panes_come_and_go_is_what_is_held(monkeypatch):
    monkeypatch.setattr("mods_grpc.ids.evidence.rows.MIN_SETTLED", 1)
    counts = make_counts()
    for pane in range(40):
        for part in range(6):
            observe(counts, [(pane * 7 + part * 3 + number) % 250 for number in range(9)], pane=pane)
            if part == 3:
                counts.close_before(pane * counts.pane_ns)
                counts.forget_before((pane - 4) * counts.pane_ns)
            counts.count_pending()
            if part % 3:
                continue
            restored = make_counts()
            restored.restore(json.loads(json.dumps(counts.state())))
            for held in range(max(0, pane - 4), pane + 1):
                place = (OWN, Dimension.DESTINATION, "site", "out", RECORDS, held * counts.pane_ns, (held + 1) * counts.pane_ns)
                assert restored.totals(*place) == counts.totals(*place)
