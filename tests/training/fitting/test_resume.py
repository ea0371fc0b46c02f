import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.errors import DataError
from tests.support.paths import ROOT
from tests.support.training.data import make_walk, write_table
from training.cli.main import main
from training.data.windows import make_samples
from training.fitting.checkpoint import CheckpointOptions
from training.fitting.fit import fit
from training.fitting.run import read_run
from training.network.config import FitConfig, ModelConfig

MODEL = ModelConfig(
    model_type="MLP", sequence_len=6, steps_ahead=3, blocks=8, stacked_blocks=1, dropout_rate=0.2, batch_normalization=True
)
OPTIONS = FitConfig(epochs=6, patience=6, batch_size=32, averaging=0.9)
SERIES = make_walk(days=3)
TRAIN = make_samples(SERIES, (slice(0, 280),), MODEL.rows, MODEL.steps_ahead)
VALIDATION = make_samples(SERIES, (slice(300, 430),), MODEL.rows, MODEL.steps_ahead)


class PulledPlug(Exception):
    pass


@pytest.mark.train
@pytest.mark.parametrize("averaging", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_a_fit_that_goes_on_after_an_interrupt_ends_with_the_weights_of_an_undisturbed_one(
    tmp_path: Path, averaging: float
) -> None:
    def pull_the_plug(epoch: int, losses: object) -> None:
        if epoch == 3:
            raise PulledPlug

    options = replace(OPTIONS, averaging=averaging)
    undisturbed = fit(MODEL, options, TRAIN, VALIDATION)
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(PulledPlug):
        fit(MODEL, options, TRAIN, VALIDATION, pull_the_plug, CheckpointOptions(path=path))
    epochs: list[int] = []
    resumed = fit(
        MODEL, options, TRAIN, VALIDATION, lambda epoch, losses: epochs.append(epoch), CheckpointOptions(path=path, resume=True)
    )
    assert epochs == [4, 5, 6]
    assert resumed.history == undisturbed.history
    assert resumed.best_epoch == undisturbed.best_epoch
    for ours, theirs in zip(resumed.network.get_weights(), undisturbed.network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.train
def test_a_checkpoint_of_another_fit_or_of_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    fit(MODEL, replace(OPTIONS, epochs=1), TRAIN, VALIDATION, checkpoints=CheckpointOptions(path=path))
    with pytest.raises(DataError, match="other options or other data"):
        fit(MODEL, replace(OPTIONS, seed=2), TRAIN, VALIDATION, checkpoints=CheckpointOptions(path=path, resume=True))
    path.write_bytes(b"something else")
    with pytest.raises(DataError, match="not an"):
        fit(MODEL, OPTIONS, TRAIN, VALIDATION, checkpoints=CheckpointOptions(path=path, resume=True))


@pytest.mark.train
@pytest.mark.slow
def test_a_fit_killed_in_mid_epoch_and_started_again_gives_the_same_run(tmp_path: Path) -> None:
    table = write_table(tmp_path / "x.csv", make_walk(days=30))
    times = ["--train-time-range", "<2024-01-01,2024-01-31)", "--test-time-range", ""]
    words = ["fit", "--csv", str(table), "--time-column", "time", "--features", "x0,x1", "--dropout-rate", "0.1"]
    words += [*times, "--epochs", "12", "--epochs-patience", "12", "--blocks", "16"]
    assert main([*words, "--run", str(tmp_path / "undisturbed")]) == 0

    checkpoint = tmp_path / "killed" / "checkpoint.npz"
    command = [sys.executable, "-m", "training", *words, "--run", str(tmp_path / "killed")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while not checkpoint.exists():
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "run.json").exists()

    assert main([*words, "--run", str(tmp_path / "killed"), "--resume"]) == 0
    assert not checkpoint.exists()
    (undisturbed, weights), (killed, weights_killed) = read_run(tmp_path / "undisturbed"), read_run(tmp_path / "killed")
    assert weights == weights_killed
    assert killed.history == undisturbed.history
    assert "--resume" in killed.command


@pytest.mark.train
def test_losses_are_logged_for_tensorboard(tmp_path: Path) -> None:
    table = str(write_table(tmp_path / "x.csv", make_walk(days=5)))
    ranges = ["--train-time-range", "<2024-01-01,2024-01-06)", "--test-time-range", ""]
    data = ["--csv", table, "--time-column", "time", "--features", "x0", *ranges, "--model-type", "MLP", "--epochs", "2"]
    assert main(["fit", *data, "--run", str(tmp_path / "run"), "--tensorboard", str(tmp_path / "logs")]) == 0
    from training.network.backend import tf

    for part, name in (("train", "loss"), ("validation", "val_loss")):
        (log,) = (tmp_path / "logs" / part).iterdir()
        logged = {
            event.step: float(tf.make_ndarray(value.tensor))
            for event in tf.compat.v1.train.summary_iterator(str(log))
            for value in event.summary.value
        }
        run, _ = read_run(tmp_path / "run")
        assert logged == pytest.approx({1: run.history[name][0], 2: run.history[name][1]})
