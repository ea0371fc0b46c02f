import json
import os
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.errors import DataError
from tests.support.training.data import make_walk, write_table
from training.cli.main import main
from training.cli.search import format_fit_command
from training.data.source import SourceConfig
from training.experiments.hyperparameter_search import SearchSpace, search, validation_score
from training.fitting.run import read_run
from training.network.config import FitConfig, ModelConfig

MODEL = ModelConfig(model_type="MLP", steps_ahead=2, stacked_blocks=1)
OPTIONS = FitConfig(epochs=2, patience=2)
SPACE = SearchSpace(sequence_lens=(4, 8), widths=(4, 8))
RANGES = ["--train-time-range", "<2024-01-01,2024-01-05)"]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> SourceConfig:
    table = write_table(tmp_path_factory.mktemp("data") / "x.csv", make_walk(days=5))
    return SourceConfig(
        csv=str(table),
        time_column="time",
        features="x0,x1",
        train_time_range="<2024-01-01,2024-01-05)",
        test_time_range="<2030-01-01,2030-01-02)",  # not in the data: reading it would be an error
    )


@pytest.mark.slow
@pytest.mark.train
def test_the_same_seed_tries_the_same_options_with_the_same_scores_and_reads_no_test_range(source) -> None:
    first, again = (list(search(source, MODEL, OPTIONS, SPACE, 2)) for _ in range(2))
    assert first == again
    assert len(first) == 2
    for trial in first:
        assert trial.model.sequence_len in SPACE.sequence_lens
        assert trial.model.blocks in SPACE.widths
        assert SPACE.learning_rates[0] <= trial.fit.learning_rate <= SPACE.learning_rates[1]
        assert 0 < trial.score < 10


def test_no_change_scores_one_and_a_perfect_forecast_nothing() -> None:
    windows = np.random.default_rng(1).normal(size=(20, 5, 2))
    observed = np.random.default_rng(2).normal(size=(20, 12, 2))
    assert validation_score(observed, np.repeat(windows[:, -1:], 12, axis=1), windows[:, -1]) == pytest.approx(1.0)
    assert validation_score(observed, observed, windows[:, -1]) < 1e-100
    halfway = (observed + windows[:, -1:]) / 2
    assert validation_score(observed, halfway, windows[:, -1]) == pytest.approx(0.5)


@pytest.mark.train
def test_the_command_writes_every_trial_and_the_command_that_fits_the_best(tmp_path: Path, source, capsys) -> None:
    output = tmp_path / "search.json"
    words = ["--csv", source.csv, "--time-column", "time", "--features", "x0", *RANGES, "--model-type", "MLP", "--epochs", "2"]
    own = ["--trials", "2", "--sequence-lens", "4,6", "--widths", "4", "--learning-rates", "1e-3,2e-3", "--output", str(output)]
    assert main(["search", *words, *own]) == 0
    trials = json.loads(output.read_text())
    assert len(trials) == 2
    best = min(trials, key=lambda trial: trial["score"])
    shown = capsys.readouterr().out
    assert f"--sequence-len {best['model']['sequence_len']} --blocks 4 --learning-rate {best['fit']['learning_rate']:g}" in shown
    assert "--trials" not in shown
    fit = shlex.split(shown.split("fit the best: python -m training ")[1].splitlines()[0])
    assert main([*fit, "--run", str(tmp_path / "run")]) == 0  # although the test range is chosen from the data
    assert read_run(tmp_path / "run")[0].model.sequence_len == best["model"]["sequence_len"]


def test_the_command_to_fit_leaves_out_what_belongs_to_the_search(source) -> None:
    class BestTrial:
        score = 1.0
        model = ModelConfig(sequence_len=24, blocks=16)
        fit = FitConfig(learning_rate=0.002)

    words = [
        "search",
        "--csv",
        "x.csv",
        "--trials=5",
        "--blocks",
        "9",
        "--level",
        "--output",
        "y.json",
        "--widths=4,8",
        "--tri",
        "7",
        "--seed",
        "3",
    ]
    assert format_fit_command(words, [BestTrial()]) == (
        "python -m training fit --csv x.csv --level --seed 3 --sequence-len 24 --blocks 16 --learning-rate 0.002"
    )


@pytest.mark.train
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_search_and_leaves_what_was_found(source) -> None:
    pressed = [False]

    def listener_of(title: str):
        def listener(epoch: int, losses: object) -> None:
            if pressed[0]:
                os.kill(os.getpid(), signal.SIGINT)

        return listener

    trials = search(source, MODEL, OPTIONS, SPACE, 5, listener_of)
    assert next(trials).score > 0
    pressed[0] = True
    with pytest.raises(KeyboardInterrupt):
        next(trials)


@pytest.mark.parametrize(
    "wrong", [{"sequence_lens": ()}, {"widths": ()}, {"learning_rates": (1e-2, 1e-3)}, {"learning_rates": (0, 1)}]
)
def test_a_space_without_choices_is_refused(wrong) -> None:
    with pytest.raises(DataError):
        SearchSpace(**wrong)
