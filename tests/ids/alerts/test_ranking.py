"""The rank of an alert among those of the last day."""

import json
from dataclasses import replace
from datetime import timedelta

from mods_grpc.ids.alerts.alert import Rank
from mods_grpc.ids.alerts.ranking import AlertRanking
from tests.support.alerts.sample_alerts import ALERT, FEATURES


def alert(score, hours=0.0, observed=None):
    end = ALERT.window_end + timedelta(hours=hours)
    features = FEATURES if observed is None else (replace(FEATURES[1], observed=observed),)
    return replace(ALERT, peak_score=score, window_end=end, features=features)


def ranks(ranking, *alerts):
    return [(rank.position, rank.total) for rank in map(ranking.rank, alerts)]


def test_the_strongest_is_first():
    assert ranks(AlertRanking(), alert(3), alert(5), alert(4), alert(6), alert(2)) == [(1, 1), (1, 2), (2, 3), (1, 4), (5, 5)]


def test_alerts_with_the_same_score_are_ranked_by_how_far_they_are_from_the_forecast():
    ranking = AlertRanking()
    assert ranks(ranking, alert(6, observed=9_000.0), alert(6, observed=900_000.0), alert(6, observed=1.0)) == [
        (1, 1),
        (1, 2),
        (1, 3),  # a fall to nothing is farther than either
    ]


def test_alerts_are_forgotten_after_a_day():
    ranking = AlertRanking()
    assert ranks(ranking, alert(9), alert(8, hours=23), alert(3, hours=24), alert(4, hours=24.5)) == [
        (1, 1),
        (2, 2),
        (3, 3),
        (2, 3),
    ]


def test_a_restart_changes_no_rank():
    before, after = AlertRanking(), AlertRanking()
    ranks(before, alert(3), alert(5, hours=2), alert(4, hours=1))
    after.restore(json.loads(json.dumps(before.state())))
    assert before.rank(alert(4.5, hours=24.5)) == after.rank(alert(4.5, hours=24.5)) == Rank(position=2, total=3)
