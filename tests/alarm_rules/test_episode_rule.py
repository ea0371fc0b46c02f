"""The episode rule: row by row, over arrays, and in the units of the server and of the watch."""

from datetime import timedelta

import numpy as np
import pytest

from mods_grpc.alarm_rules.episode_rule import Phase, holdoff_rows, next_phase, next_phases

HOLDOFF = 3


@pytest.mark.parametrize(
    ("since_anomalous", "anomalous", "phase"),
    [
        (None, False, Phase.NONE),
        (None, True, Phase.STARTED),
        (1, True, Phase.ONGOING),
        (HOLDOFF, False, Phase.ONGOING),
        (HOLDOFF, True, Phase.ONGOING),
        (HOLDOFF + 1, False, Phase.ENDED),
        (HOLDOFF + 1, True, Phase.STARTED),
    ],
)
def test_an_episode_opens_at_an_anomalous_row_and_ends_after_the_hold_off(since_anomalous, anomalous, phase):
    assert next_phase(since_anomalous, HOLDOFF, anomalous=anomalous) is phase
    elapsed = None if since_anomalous is None else timedelta(minutes=since_anomalous)
    assert next_phase(elapsed, timedelta(minutes=HOLDOFF), anomalous=anomalous) is phase


def test_the_rule_over_arrays_is_the_rule_row_by_row():
    is_open, since_anomalous, anomalous = (
        column.ravel() for column in np.meshgrid([False, True], [1, HOLDOFF, HOLDOFF + 1], [False, True])
    )
    expected = [
        next_phase(since if opened else None, HOLDOFF, anomalous=flag)
        for opened, since, flag in zip(is_open.tolist(), since_anomalous.tolist(), anomalous.tolist(), strict=True)
    ]
    assert next_phases(is_open, since_anomalous, HOLDOFF, anomalous).tolist() == expected


def test_the_hold_off_is_window_over_slide_rounded_up():
    assert (holdoff_rows(3600, 600), holdoff_rows(3601, 600), holdoff_rows(600, 600)) == (6, 7, 1)
