"""Some rounds of every kind, and those that once failed; `python -m tests.fuzz` runs more."""

from contextlib import chdir

import pytest

from tests.fuzz.__main__ import run_round
from tests.fuzz.rounds import ROUNDS, SERVER

ROUNDS_EACH = {"recorded": 12, "schemes": 24, "followed": 24, "growing": 12, "command": 8, "replay": 4, "flags": 60}
FAILED = [
    *(("followed", seed) for seed in (8146, 8181, 8267, 8360, 8429, 8538, 8617, 8922, 8944, 8977, 9130, 9256)),
    *(("followed", seed) for seed in (313_553, 322_884, 419_160, 430_922, 454_786, 700_289)),
    *(("recorded", seed) for seed in (21_055, 21_635)),
    ("growing", 20_642),
]


@pytest.fixture(scope="module", autouse=True)
def _server():
    yield
    SERVER.close()


def test_every_kind_of_round_is_run():
    assert ROUNDS_EACH.keys() == ROUNDS.keys()


@pytest.mark.parametrize("kind", ROUNDS_EACH)
def test_random_logs_names_and_flags_end_in_order_and_count_the_same(kind, tmp_path):
    for seed in range(ROUNDS_EACH[kind]):
        folder = tmp_path / str(seed)
        folder.mkdir()
        with chdir(tmp_path):
            run_round(kind, seed, folder)


@pytest.mark.parametrize(("kind", "seed"), FAILED)
def test_a_round_that_failed_once_ends_in_order(kind, seed, tmp_path):
    run_round(kind, seed, tmp_path)
