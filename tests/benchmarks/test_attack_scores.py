"""Alerts of attacks are told from others by host, time and what they name, and counted without favour."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.attacks import page
from benchmarks.attacks.backgrounds import DAY_SECONDS
from benchmarks.attacks.comparators import COMPARATORS
from benchmarks.attacks.pool_tables import FleetTable
from benchmarks.attacks.product import WindowGrid
from benchmarks.attacks.recipes import find_recipe
from benchmarks.attacks.scene import FIRST_DAY, Placement, Scene
from benchmarks.attacks.score import MAX_EXAMPLES, Episode, calibrate, choose_threshold, find_starts, is_free, judge, split_alerts
from benchmarks.attacks.workflow import Result, find_unscored
from mods_grpc.alarm_rules.episode_rule import Phase, next_phases
from mods_grpc.ids.alerts.rule_alert import rule_alert_to_json
from mods_grpc.ids.rules import episodes as rule_episodes
from tests.ids.rules.records import HOST, SERVER, conn, dns, host_scan, run, ssh

WINDOWS = WindowGrid(600, 60)
BEGIN = DAY_SECONDS + 10_000  # of an attack, from the first day
HOSTS = ("10.0.0.5", *(f"10.0.1.{number}" for number in range(9)))


def make_scene(placements, *, clean=(), hosts=("a", "b", "c")):
    groups = dict.fromkeys(hosts, "servers")
    return Scene(Path(), 2, "10.200.0.0/16", groups, clean, tuple(placements), 0, ())


def make_placement(host, start, end, others=(), *, mark="A0-", names=()):
    last = FIRST_DAY + DAY_SECONDS
    return Placement("exfil_1", "exfil", 1.0, host, others, last + start, last + end, 10, mark, frozenset(names))


def make_episode(host, start, seconds=600):
    begin = FIRST_DAY + DAY_SECONDS + start
    return Episode(host, begin, begin + seconds)


def test_an_attack_is_found_by_an_alert_on_its_host_that_overlaps_it():
    scene = make_scene([make_placement("a", 10_000, 20_000, ("b",)), make_placement("b", 50_000, 60_000)])
    episodes = [
        make_episode("a", -500),  # of a window that began the day before
        make_episode("a", 9_000),  # ends before the attack: false
        make_episode("a", 19_000),
        make_episode("a", 9_700),  # overlaps its start, 300 s into it
        make_episode("b", 15_000),  # of a host that is reached inside
        make_episode("b", 60_500),  # begins within the grace
        make_episode("c", 15_000),  # another host: false
        make_episode("c", -90_000),  # another day
    ]
    outcome = judge("m", "1 a day", episodes, scene, WINDOWS, 600, per_day=1.0)
    assert outcome.delays == {0: 300.0, 1: 11_100.0}
    assert [(each.host, each.start - FIRST_DAY - DAY_SECONDS) for each in outcome.false] == [
        ("a", -500),
        ("a", 9_000),
        ("c", 15_000),
    ]
    assert outcome.allowed == 3
    assert 0 < outcome.chance < 2


def guess(source, hosts, *, begin=BEGIN, count=60):
    """Return failed log-ins of an address to hosts in turn."""
    return [ssh(begin + 5 * n, n, orig=source, resp=hosts[n % len(hosts)], failed=True) for n in range(count)]


def raise_alerts(records, *only):
    """Return the episodes that the fixed rules raise, as read from their alerts."""
    early = conn(BEGIN - 7_200)  # so that two hours were watched before
    lines = [rule_alert_to_json(alert) for alert in run([early, *records], only=only)]
    return split_alerts(lines)[1]


def judge_rules(episodes, *attacks, clean=()):
    outcome = judge("fixed rules", "none", episodes, make_scene(attacks, hosts=HOSTS, clean=clean), WINDOWS, 600)
    return sorted(outcome.delays), len(outcome.false)


def place_attack(host, **options):
    return make_placement(host, 10_000, 10_400, **options)


def test_an_alert_of_the_whole_site_is_of_the_attack_whose_address_it_names():
    (episode,) = raise_alerts(guess(SERVER, HOSTS[:3]), "ssh-inbound")
    assert (episode.host, episode.names_all) == ("site", True)
    assert judge_rules([episode], place_attack(HOSTS[1], names=[SERVER])) == ([0], 0)
    assert judge_rules([episode], place_attack(HOSTS[1], names=["198.51.100.1"])) == ([], 1)  # another attack at the time
    assert judge_rules([episode], place_attack(HOSTS[4], names=[SERVER])) == ([], 1)  # of a host that it does not name
    assert judge_rules([episode], make_placement(HOSTS[1], 50_000, 50_400, names=[SERVER])) == ([], 1)  # at another time
    assert judge_rules([episode]) == ([], 1)


def test_an_alert_of_the_whole_site_names_a_few_hosts_and_may_be_of_others():
    (episode,) = raise_alerts(guess(SERVER, HOSTS), "ssh-inbound")
    assert len(episode.names - {SERVER} - {f"S{n}" for n in range(60)}) == rule_episodes.MAX_EXAMPLES == MAX_EXAMPLES
    assert not episode.names_all
    assert judge_rules([episode], place_attack(HOSTS[9], names=[SERVER])) == ([0], 0)
    assert judge_rules([episode], place_attack(HOSTS[9], names=["198.51.100.1"])) == ([], 1)


def test_an_address_that_an_alert_names_beside_the_first_is_of_hosts_that_it_does_not_name():
    records = [record for n in range(60) for record in (ssh(BEGIN + n, n, orig=SERVER, resp=HOSTS[0], failed=True),)]
    records += [ssh(BEGIN + n, n, orig="198.51.100.1", resp=HOSTS[1], failed=True) for n in range(40)]
    (episode,) = raise_alerts(records, "ssh-inbound")
    assert (episode.host, episode.names_all) == (HOSTS[0], False)
    assert judge_rules([episode], place_attack(HOSTS[1], names=["198.51.100.1"])) == ([0], 0)
    assert judge_rules([episode], place_attack(HOSTS[1], names=["198.51.100.2"])) == ([], 1)


def test_false_alerts_of_the_whole_site_count_if_they_may_be_of_the_clean_host():
    few, many, others = (raise_alerts(guess(SERVER, hosts), "ssh-inbound") for hosts in (HOSTS[:3], HOSTS, HOSTS[1:3]))
    assert [judge_rules(each, clean=(HOSTS[0],)) for each in (few, many, others)] == [([], 1), ([], 1), ([], 0)]


def test_an_alert_of_a_rule_on_the_host_is_of_an_attack_only_if_it_names_something_of_it():
    (scan,) = raise_alerts(host_scan(40, begin=BEGIN), "host-scan")
    assert "445" not in scan.names
    assert judge_rules([scan], place_attack(HOST, names=["198.51.0.0"])) == ([0], 0)
    assert judge_rules([scan], place_attack(HOST, mark="C0")) == ([0], 0)  # by a record
    assert judge_rules([scan], place_attack(HOST, names=["203.0.113.99"])) == ([], 1)
    # the window of a day began long before, with what the host always does
    names = [dns(DAY_SECONDS + 100 * n, f"host-{n}.example.com") for n in range(160)]
    (subdomains,) = raise_alerts(names, "dns-subdomains")
    assert subdomains.start < make_scene([]).last_day[0] + 10_000 < subdomains.end
    assert judge_rules([subdomains], place_attack(HOST, names=[SERVER, "example.net"])) == ([], 1)
    assert judge_rules([subdomains], place_attack(HOST, names=["example.com"])) == ([0], 0)


def test_an_alert_of_a_rule_on_a_host_that_an_attack_reaches_is_of_the_attack_or_false():
    records = [*guess(HOST, HOSTS[1:2]), ssh(BEGIN + 400, 99, orig=HOST, resp=HOSTS[1], failed=False)]
    (broken_in,) = raise_alerts(records, "ssh-break-in")
    assert broken_in.host == HOSTS[1]
    assert judge_rules([broken_in], place_attack(HOST, others=HOSTS[1:2])) == ([0], 0)
    (guessed,) = raise_alerts(guess(SERVER, HOSTS[1:2]), "ssh-inbound")
    assert judge_rules([guessed], place_attack(HOST, others=HOSTS[1:2])) == ([], 1)
    assert judge_rules([guessed], place_attack(HOST, others=HOSTS[1:2], names=[SERVER])) == ([], 0)  # neither


def test_alerts_of_rules_find_nothing_by_chance():
    scene = make_scene([make_placement("a", 10_000, 20_000)])
    last = FIRST_DAY + DAY_SECONDS
    rule = Episode("c", last, last + 80_000, "bytes-out", frozenset(["203.0.113.1"]))
    assert judge("m", "none", [rule], scene, WINDOWS, 600).chance == 0
    both = judge("m", "none", [rule, make_episode("c", 40_000)], scene, WINDOWS, 600)
    assert both.chance == judge("m", "none", [make_episode("c", 40_000)], scene, WINDOWS, 600).chance > 0


def test_false_alerts_of_copies_do_not_count():
    scene = make_scene([make_placement("b", 10_000, 20_000)], clean=("a",))
    outcome = judge("m", "1 a day", [make_episode(host, 40_000) for host in "abc"], scene, WINDOWS, 600, per_day=1.0)
    assert [each.host for each in outcome.false] == ["a"]
    assert outcome.allowed == 1


def test_p_values_are_counted_where_no_attack_is():
    scene = make_scene([make_placement("a", 40_000, 50_000, ("b",))])
    times = np.arange(FIRST_DAY, FIRST_DAY + 2 * DAY_SECONDS, 60)
    table = FleetTable(("a", "b", "c"), times, ("x",), np.zeros((3, len(times), 1)))
    free = is_free(scene, table, WINDOWS)
    assert free.sum(axis=1).tolist() == [1_440 - 207, 1_440 - 207, 1_440]  # 600 s before to 1,800 s after
    p_values = np.ones(free.shape)
    p_values[2, -10:] = 1e-3
    p_values[0, int(1_440 + 45_000 / 60)] = 1e-9  # of the attack
    p_values[1, -1] = np.nan
    (calibration,) = calibrate("m", p_values, scene, table, free)
    assert (calibration.rows, calibration.observed) == (4_320 - 2 * 207 - 1, (10, 10, 10, 0, 0))


@given(arrays.arrays(bool, (3, 40)), st.integers(1, 6))
def test_episodes_start_where_the_products_do(stands_out, holdoff):
    starts = find_starts(stands_out, holdoff)
    is_open, since = np.zeros(3, dtype=bool), np.zeros(3, dtype=np.int64)
    for row in range(40):
        since += 1
        phases = next_phases(is_open, since, holdoff, stands_out[:, row])
        assert starts[:, row].tolist() == (phases == Phase.STARTED).tolist()
        is_open = (phases == Phase.STARTED) | (phases == Phase.ONGOING)
        since[stands_out[:, row]] = 0


@given(arrays.arrays(np.float64, (3, 30), elements=st.integers(0, 9)), st.integers(0, 20))
def test_a_threshold_and_all_above_it_keep_the_budget_and_the_next_lower_score_does_not(scores, budget):
    threshold = choose_threshold(scores, budget, 3)
    for score in np.unique(scores[scores >= threshold]):
        assert find_starts(scores >= score, 3).sum() <= budget
    lower = scores[(scores < threshold) & (scores > np.median(scores))]
    if len(lower):
        assert find_starts(scores >= lower.max(), 3).sum() > budget


def test_what_most_rows_have_does_not_stand_out():
    scores = np.zeros((6, 300))
    scores[:, ::30] = np.arange(60).reshape(6, 10) + 1
    assert choose_threshold(scores, 20, 3) == 41
    assert choose_threshold(scores, 60, 3) == 1  # and not 0, at which each host is one long episode


@pytest.mark.parametrize("name", COMPARATORS)
def test_comparators_score_a_burst_high_and_read_empty_cells_as_zero(name):
    generator = np.random.default_rng(1)
    values = generator.poisson(20, (4, 300, 3)).astype(float)
    values[1, 250] = 5_000
    values[3, :, 1] = np.nan
    is_fit = np.arange(300) < 200
    scores = COMPARATORS[name](values, is_fit, 1)
    assert scores.shape == (4, 300)
    assert np.isfinite(scores).all()
    # a forest's score grows no further outside the range that it was fitted on
    assert scores[1, 250:252].max() >= np.quantile(scores, 0.99)


def test_alerts_of_rules_are_told_from_those_of_the_model_and_from_notices():
    window = {"start": "2026-03-03T10:00:00Z", "end": "2026-03-03T10:10:00Z"}
    lines = [
        {"kind": "notice", "code": "late", "state": "raised"},
        {"kind": "notice", "code": "late", "state": "cleared"},
        {"phase": "start", "series": "a", "window": window},
        {"phase": "end", "series": "a", "window": window},
        {
            "kind": "rule",
            "rule": "host-scan",
            "phase": "start",
            "host": "b",
            "group": "445",
            "source_ip": "b",
            "destination_ip": None,
            "top": [{"name": "445", "count": 9}],
            "examples": ["c"],
            "uids": [],
            "window": window,
            "first": "2026-03-03T10:05:00Z",
        },
    ]
    model, rules, notices = split_alerts(lines)
    start = FIRST_DAY + DAY_SECONDS + 36_000
    assert model == [Episode("a", start, start + 600)]
    assert rules == [Episode("b", start + 300, start + 600, "host-scan", frozenset("c"))]
    assert notices == {"late": 1}


@pytest.mark.parametrize("name", COMPARATORS)
def test_comparators_learn_nothing_from_what_comes_later(name):
    values = np.random.default_rng(1).poisson(20, (4, 300, 3)).astype(float)
    is_fit, before = np.arange(300) < 200, COMPARATORS[name](values, np.arange(300) < 200, 1)
    values[:, 260:] = 1e6
    assert np.array_equal(COMPARATORS[name](values, is_fit, 1)[:, :260], before[:, :260])


def test_a_forest_is_another_one_with_another_seed():
    values = np.random.default_rng(1).poisson(20, (2, 100, 3)).astype(float)
    scores = [COMPARATORS["Isolation Forest"](values, np.arange(100) < 60, seed) for seed in (1, 1, 2)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_attacks_during_which_no_row_was_scored_are_listed():
    scene = make_scene([make_placement("a", 10_000, 11_000), make_placement("b", 10_000, 11_000)])
    times = np.arange(FIRST_DAY, FIRST_DAY + 2 * DAY_SECONDS, 60)
    table = FleetTable(("a", "b", "c"), times, ("x",), np.zeros((3, len(times), 1)))
    p_values = np.full((3, len(times)), 0.5)
    during = table.is_between(FIRST_DAY + DAY_SECONDS + 8_000, FIRST_DAY + DAY_SECONDS + 20_000)
    p_values[0, during] = np.nan
    assert find_unscored(scene, table, p_values, WINDOWS, 600) == (0,)


def test_the_page_says_what_a_scene_lacks():
    placement = replace(make_placement("a", 10_000, 20_000), cut=3)
    source = {"group": "servers", "folders": ["one"], "days": 1, "connections_per_day": 9, "hosts": 3}
    scene = replace(make_scene([placement]), unplaced=("c2_long",), unread={"exfil_1": 2}, sources=(source,))
    text = page.format_scene(scene, WINDOWS)
    assert "placed without what ends after it: exfil_1 (3 records)." in text
    assert "Not placed, or not as often, because no record ends on the day: c2_long." in text
    assert "could not be read, are lines of exfil_1 (2)." in text
    assert "a background of one day" in text
    assert page.format_scene(None, WINDOWS) == "Left out: no background host is a server."


def test_the_page_counts_by_kind_and_strength():
    scene = make_scene([make_placement("a", 10_000, 20_000), make_placement("b", 10_000, 20_000)])
    outcome = judge("model", "1 a day", [make_episode("a", 9_700), make_episode("c", 0)], scene, WINDOWS, 600, per_day=1.0)
    result = Result(find_recipe("old"), [outcome], [], [], {"late": 2}, 3, 0.5, 1, (1,), ("no log",))
    text = page.format_result(scene, result)
    assert json.loads(json.dumps(result.to_json(scene)))["outcomes"][0]["found"] == {"0": 300.0}
    assert "| model | 1 a day | 1 (5) | " in text
    assert "| 1 | 1 | 3 | 1/2 (5) | 1/2 (5) |" in text
    assert "impaired: `late` 2 times." in text
    assert "the fixed rules raised 3 alerts" in text
    assert "scored 50.0 % of the rows of the last day; the others had missing values. It scored none of 1 of 3 hosts." in text
    assert "It scored no row during 1 attacks, which it can't find: 1 exfil_1." in text
    assert "Doubts of `aggregate` and `replay`: no log." in text
