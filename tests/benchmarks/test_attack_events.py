"""Alerts of hosts made of one background are one event if the background had it at one time."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.attacks import page
from benchmarks.attacks.backgrounds import DAY_SECONDS
from benchmarks.attacks.fleet import Origin
from benchmarks.attacks.pool_tables import FleetTable
from benchmarks.attacks.product import WindowGrid
from benchmarks.attacks.recipes import find_recipe
from benchmarks.attacks.scene import FIRST_DAY, Placement, Scene
from benchmarks.attacks.score import (
    Episode,
    EventCounter,
    choose_event_threshold,
    choose_threshold,
    count_events,
    judge,
    list_episodes,
)
from benchmarks.attacks.workflow import Result

WINDOWS = WindowGrid(600, 60)
LAST = FIRST_DAY + DAY_SECONDS
SHIFTS = {"a": (-300.0, 0.0), "b": (5_000.0, 7_200.0), "c": (900.0, -4_020.0), "other": (0.0, 0.0)}
HOUR, NOON = 3_600, DAY_SECONDS / 2


def make_scene(placements=()):
    """Return a scene of three hosts of one background and one of another."""
    origins = {host: Origin(int(host == "other"), shifts) for host, shifts in SHIFTS.items()}
    groups = dict.fromkeys(SHIFTS, "servers")
    return Scene(Path(), 2, "10.200.0.0/16", groups, (), tuple(placements), 0, (), origins=origins)


def make_placement(host, start, end, others=()):
    return Placement("exfil_1", "exfil", 1.0, host, others, start, end, 10, "A0-", frozenset())


def alert_of(host, second, rule=""):
    """Return an alert of a host whose background has it at a second of its last day."""
    start = LAST + (second + SHIFTS[host][1]) % DAY_SECONDS
    return Episode(host, start, start + WINDOWS.window, rule)


def count(*episodes):
    return count_events(episodes, make_scene(), WINDOWS)


def test_alerts_of_hosts_of_one_background_at_one_time_of_it_are_one_event():
    assert count() == 0
    assert count(alert_of("a", NOON)) == 1
    assert count(*(alert_of(host, NOON) for host in "abc")) == 1
    assert count(alert_of("a", NOON), alert_of("b", NOON + HOUR)) == 2
    assert count(alert_of("a", NOON), alert_of("b", NOON + HOUR), alert_of("c", NOON + HOUR)) == 2
    assert count(alert_of("a", NOON), alert_of("a", NOON + HOUR)) == 2


def test_alerts_of_one_background_at_one_time_of_the_scene_are_not_one_event():
    assert count(*(Episode(host, LAST + NOON, LAST + NOON + 600) for host in "abc")) == 3


def test_alerts_of_two_backgrounds_are_two_events():
    assert count(alert_of("a", NOON), alert_of("other", NOON)) == 2


@pytest.mark.parametrize("middle", [NOON, 0, -7_200, 4_020])  # where the clock of the background or of a host begins again
def test_alerts_up_to_the_hold_off_after_each_other_are_one_event_past_midnight_as_well(middle):
    assert count(alert_of("a", middle - 300), alert_of("b", middle + 300)) == 1
    assert count(alert_of("a", middle - 300), alert_of("b", middle + 301)) == 2
    assert count(*(alert_of(host, middle + after) for host, after in zip("abc", (-600, 0, 600), strict=True))) == 1
    assert count(alert_of("a", middle - HOUR / 2), alert_of("b", middle + HOUR / 2)) == 2


def test_the_hold_off_is_as_many_rows_as_share_an_event():
    coarse = WindowGrid(600, 400)
    alerts = [alert_of("a", NOON), alert_of("b", NOON + 800)]
    assert count_events(alerts, make_scene(), coarse) == 1
    assert count_events([*alerts, alert_of("c", NOON + 1_601)], make_scene(), coarse) == 2


def test_a_window_that_began_the_day_before_is_moved_as_that_day_was():
    starts = [FIRST_DAY + 80_000 + SHIFTS[host][0] for host in "abc"]
    episodes = [Episode(host, start, LAST + 60) for host, start in zip("abc", starts, strict=True)]
    assert count(*episodes) == 1


def test_alerts_of_rules_are_events_of_their_host_and_those_of_no_host_one_each():
    assert count(alert_of("a", NOON), alert_of("b", NOON, "bytes-out")) == 1
    whole_site = Episode("site", LAST + NOON, LAST + NOON + 600, "ssh-inbound")
    elsewhere = Episode("10.200.255.1", LAST + NOON, LAST + NOON + 600, "ssh-inbound")
    assert count(whole_site, whole_site, elsewhere, alert_of("a", NOON)) == 4


def count_by_pairs(times, holdoff):
    """Return how many groups times of one background are, if each is joined with all that are near it."""
    groups = []
    for time in times:
        distances = [[min((time - each) % DAY_SECONDS, (each - time) % DAY_SECONDS) for each in group] for group in groups]
        near = [group for group, far in zip(groups, distances, strict=True) if min(far) <= holdoff]
        groups = [group for group in groups if group not in near] + [sum(near, [time])]
    return len(groups)


@given(st.lists(st.tuples(st.integers(0, 287), st.booleans()), max_size=60))
def test_events_are_counted_alike_however_alerts_came_and_went(changes):
    windows, counter, times = WindowGrid(1_200, 300), EventCounter(make_scene(), WindowGrid(1_200, 300)), Counter()
    for slot, is_added in changes:
        if is_added:
            counter.add(alert_of("b", 300 * slot))
        elif times[slot]:
            counter.remove(alert_of("b", 300 * slot))
        times[slot] += 1 if is_added else -bool(times[slot])
        assert counter.count == count_by_pairs([300 * each for each in times.elements()], windows.window)


def test_an_outcome_has_the_number_of_its_events_and_so_have_the_page_and_the_figures():
    scene = make_scene([make_placement("a", LAST + NOON, LAST + NOON + 600)])
    episodes = [*(alert_of(host, NOON) for host in "abc"), *(alert_of(host, NOON + 2 * HOUR) for host in "abc")]
    outcome = judge("model", "1 a day", [*episodes, alert_of("other", NOON)], scene, WINDOWS, 600, per_day=1.0)
    assert (list(outcome.delays), len(outcome.false), outcome.events) == ([0], 6, 3)
    result = Result(find_recipe("old"), [outcome], [], [], {}, None, 1.0, 0)
    assert json.loads(json.dumps(result.to_json(scene)))["outcomes"][0]["events"] == 3
    text = page.format_result(scene, result)
    assert "| false | events | allowed |" in text
    assert "| 6 | 3 | 4 |" in text


def make_table(rows):
    return FleetTable(tuple(SHIFTS), LAST + 60 * np.arange(rows), ("x",), np.zeros((len(SHIFTS), rows, 1)))


def score_at(*alerts):
    """Return scores of a day, which are 0 but where the windows of alerts begin."""
    scores = np.zeros((len(SHIFTS), 1_440))
    for alert, score in alerts:
        scores[list(SHIFTS).index(alert.host), int(alert.start - LAST) // 60] = score
    return scores


def choose(scores, budget, *placements):
    table = make_table(scores.shape[1])
    return choose_event_threshold(scores, budget, table, make_scene(placements), WINDOWS, 600)


def test_an_event_of_a_background_counts_once_and_an_alert_of_an_attack_each_time():
    shared = [(alert_of(host, NOON), score) for host, score in zip("abc", (9, 8, 7), strict=True)]
    scores = score_at(*shared, (alert_of("other", NOON), 6), (alert_of("a", 3 * HOUR), 5), (alert_of("b", 3 * HOUR), 4))
    assert [choose(scores, budget) for budget in range(4)] == [np.inf, 7, 6, 4]
    assert choose_threshold(scores, 3, 10) == 7
    begin = alert_of("b", NOON).start
    attack = make_placement("b", begin + 599, begin + 5_000)
    assert [choose(scores, budget, attack) for budget in range(5)] == [np.inf, 9, 7, 6, 4]
    late = make_placement("b", begin - 5_000, begin - 600)  # which ended a grace before
    assert choose(scores, 1, late) == 7
    reached = make_placement("other", begin, begin + 600, ("b",))  # an alert there is one of the background
    assert choose(scores, 1, reached) == 7
    twice = score_at((alert_of("b", NOON), 9), (alert_of("b", NOON + HOUR), 8))
    assert [choose(twice, budget, attack) for budget in (1, 2)] == [9, 8]


def test_an_alert_that_begins_earlier_at_a_lower_score_is_the_same():
    rising = score_at(*((alert_of("b", NOON - 600 * step), 9 - step) for step in range(3)))
    begin = alert_of("b", NOON).start
    assert choose(rising, 1, make_placement("b", begin - 5_000, begin + 5_000)) == 7
    assert choose(rising, 1) == 7
    apart = score_at(*((alert_of("b", NOON - 600 * step), 9 - step) for step in range(3)), (alert_of("a", NOON + 600), 6))
    assert choose(apart, 1) == 7  # only the start is compared with what others have


def count_raised(scores, threshold, scene, table):
    """Return how many distinct things are raised at a threshold."""
    episodes = list_episodes(scores >= threshold, table, WINDOWS, np.full(len(table.times), True))
    is_found = [bool(judge("m", "", [episode], scene, WINDOWS, 600).delays) for episode in episodes]
    others = [episode for episode, is_one in zip(episodes, is_found, strict=True) if not is_one]
    return sum(is_found) + count_events(others, scene, WINDOWS)


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(5, 100))
def test_down_to_the_threshold_no_more_is_raised_than_the_budget_and_at_the_next_score_more(seed, budget, distinct):
    scores = np.random.default_rng(seed).integers(0, distinct, (4, 240)).astype(float)
    scores[0, :40] = np.nan
    scene, table = make_scene([make_placement("a", LAST + 5_000, LAST + 7_000)]), make_table(240)
    threshold = choose_event_threshold(scores, budget, table, scene, WINDOWS, 600)
    valid = np.sort(np.unique(scores[scores > np.nanmedian(scores)]))[::-1]
    counts = [count_raised(scores, score, scene, table) for score in valid]
    too_many = next((place for place, raised in enumerate(counts) if raised > budget), len(counts))
    assert threshold == (valid[too_many - 1] if too_many else np.inf)
