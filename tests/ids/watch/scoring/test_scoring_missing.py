"""Windows with missing values: imputed if a complete window is near, else not sent, so that the server never ends the stream."""

from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.client import Client, VerdictStatus
from mods_grpc.ids.watch.scoring.options import ScoringOptions
from mods_grpc.ids.watch.scoring.scoring_client import ScoringClient
from mods_grpc.ids.windows.window import WindowBatch
from tests.support.models.tiny import HORIZON, LEVELS, ROWS, publish_tiny
from tests.support.rpc.client import at
from tests.support.running_server import running_server

HELD_ROWS = 2 * ROWS + HORIZON + 1
MANY = 250  # more than the messages in a row that a server refuses before it ends a stream


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    publish_tiny(path)
    return path


@pytest.fixture
def make_scorer(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        scorers = []

        def make(namespace, state=None, columns=("in_count_uid", "in_sum_orig_bytes")):
            model = client.model()
            features = zip(model.features, columns, strict=True)
            model = replace(model, features=tuple(replace(f, protocol="conn", column=column) for f, column in features))
            scorer = ScoringClient(client, model, ScoringOptions(model="tiny", namespace=namespace, significance=0.003))
            if state is not None:
                scorer.restore(state)
            scorer.open()
            scorers.append(scorer)
            return scorer

        yield make
        for scorer in scorers:
            scorer.close()


def window(row, *, missing=False):
    values = LEVELS[row % len(LEVELS)].copy()
    if missing:
        values[1] = np.nan
    return WindowBatch(start_ns=at(row), series=("site",), values=values[np.newaxis])


def statuses(scorer, rows, *, missing=False):
    return [scorer.score(window(row, missing=missing))[0].status for row in rows]


def test_a_series_does_not_begin_with_a_missing_value_however_many_there_are(make_scorer):
    scorer = make_scorer("begin")
    (verdict,) = scorer.score(window(0, missing=True))
    assert verdict.status is VerdictStatus.REJECTED
    assert verdict.error.message == "values: bytes_in is missing, and there is no complete window to impute it from"
    assert set(statuses(scorer, range(1, MANY), missing=True)) == {VerdictStatus.REJECTED}
    assert statuses(scorer, range(MANY, MANY + ROWS + 1)) == [VerdictStatus.WARMING_UP] * ROWS + [VerdictStatus.SCORED]


def test_a_series_warms_up_while_it_learns_what_is_new(make_scorer):
    scorer = make_scorer("learning", columns=("in_count_uid", "out_new_hosts"))
    assert statuses(scorer, range(5), missing=True) == [VerdictStatus.WARMING_UP] * 5
    other = make_scorer("not learning", columns=("out_new_hosts", "in_count_uid"))
    assert statuses(other, range(5), missing=True) == [VerdictStatus.REJECTED] * 5
    assert statuses(scorer, range(5, 5 + ROWS + 1)) == [VerdictStatus.WARMING_UP] * ROWS + [VerdictStatus.SCORED]


def test_missing_values_are_imputed_while_a_complete_window_is_held(make_scorer):
    scorer = make_scorer("impute")
    statuses(scorer, range(2 * ROWS))
    judged = statuses(scorer, range(2 * ROWS, 2 * ROWS + HELD_ROWS), missing=True)
    assert set(judged[:-1]) == {VerdictStatus.SCORED}
    assert set(statuses(scorer, range(2 * ROWS + HELD_ROWS, MANY), missing=True)) == {VerdictStatus.REJECTED}
    assert statuses(scorer, range(MANY, MANY + ROWS + 1))[-1] is VerdictStatus.SCORED


def test_a_server_that_forgot_is_warmed_up_from_the_first_complete_window(make_scorer):
    scorer = make_scorer("forgot")
    statuses(scorer, range(2 * ROWS))
    statuses(scorer, range(2 * ROWS, 2 * ROWS + HELD_ROWS - 2), missing=True)
    statuses(scorer, range(2 * ROWS + HELD_ROWS - 2, 4 * ROWS + HELD_ROWS))
    again = make_scorer("forgot-again", scorer.state())
    assert statuses(again, [4 * ROWS + HELD_ROWS]) == statuses(scorer, [4 * ROWS + HELD_ROWS]) == [VerdictStatus.SCORED]


def test_other_series_of_the_same_start_are_judged(make_scorer):
    scorer = make_scorer("others")
    for row in range(ROWS + 1):
        values = np.stack([LEVELS[row], [LEVELS[row][0], np.nan]])
        first, second = scorer.score(WindowBatch(start_ns=at(row), series=("lab", "site"), values=values))
        assert {first.series, second.series} == {"lab", "site"}
    assert {verdict.series: verdict.status for verdict in (first, second)} == {
        "lab": VerdictStatus.SCORED,
        "site": VerdictStatus.REJECTED,
    }
