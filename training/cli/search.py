"""The command `search`: options that do well on the validation range, as a table, a file and a command to fit them."""

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from mods_grpc.errors import DataError
from training.cli.console import console, epoch_progress
from training.cli.options import fit_config, model_config, source_config
from training.experiments.hyperparameter_search import SearchSpace, Trial, search

SHOWN = 10


def search_command(arguments: argparse.Namespace) -> None:
    """Search and show the best; Ctrl-C ends it with what was found."""
    source, model, options = source_config(arguments), model_config(arguments), fit_config(arguments)
    rates = _numbers(arguments.learning_rates, "--learning-rates")
    if len(rates) != 2:
        raise DataError(f"--learning-rates is {arguments.learning_rates!r}, expected the least and the greatest")
    space = SearchSpace(
        sequence_lens=tuple(int(n) for n in _numbers(arguments.sequence_lens, "--sequence-lens")),
        widths=tuple(int(n) for n in _numbers(arguments.widths, "--widths")),
        learning_rates=(rates[0], rates[1]),
    )
    found: list[Trial] = []
    try:
        with epoch_progress(options.epochs) as listener_of:
            for trial in search(source, model, options, space, arguments.trials, listener_of):
                found.append(trial)
                _write(Path(arguments.output), found)
    except KeyboardInterrupt:
        if not found:
            raise
        console.print(f"ended by hand after {len(found)} of {arguments.trials}", style="yellow", highlight=False)
    show_trials(found)
    console.print(f"fit the best: {fit_command_line(arguments.argv, found)}", highlight=False, soft_wrap=True)


def show_trials(trials: Sequence[Trial]) -> None:
    """Show the best, lowest score first."""
    table = Table(
        "sequence_len", "blocks", "learning rate", "MAE / no change", "best epoch", "parameters", title="validation range"
    )
    for trial in sorted(trials, key=lambda trial: trial.score)[:SHOWN]:
        told = (trial.model.sequence_len, trial.model.blocks, f"{trial.fit.learning_rate:g}", f"{trial.score:.4f}")
        table.add_row(*map(str, told), str(trial.best_epoch), str(trial.parameters))
    console.print(table)


def fit_command_line(words: Sequence[str], trials: Sequence[Trial]) -> str:
    """Return the command that fits the best of the trials, made from the one that searched."""
    best = min(trials, key=lambda trial: trial.score)
    own = {"--trials", "--sequence-lens", "--widths", "--learning-rates", "--output"}
    own |= {"--sequence-len", "--blocks", "--learning-rate"}
    kept: list[str] = []
    skip = False
    for word in words[1:]:
        name = word.split("=", 1)[0]
        if not skip and name not in own:
            kept.append(word)
        skip = not skip and name in own and "=" not in word
    chosen = ["--sequence-len", str(best.model.sequence_len), "--blocks", str(best.model.blocks)]
    rate = ["--learning-rate", f"{best.fit.learning_rate:g}"]
    return shlex.join(["python", "-m", "training", "fit", *kept, *chosen, *rate])


def _write(path: Path, trials: Sequence[Trial]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(trial) for trial in trials], indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error


def _numbers(text: str, name: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"{name} is {text!r}, expected comma-separated numbers") from None
