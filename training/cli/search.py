"""The command `search`: hyperparameters that do well on the validation range, as a table, a file and a command to fit them."""

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from mods_grpc.command_line import number, numbers, parse_text, whole_number
from mods_grpc.errors import DataError
from training.cli.console import console, epoch_progress
from training.cli.options import add_model_options, add_source_options, fit_config, model_config, source_config, usage_errors
from training.experiments.hyperparameter_search import SearchSpace, Trial, search

MAX_SHOWN = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `search`."""
    add_source_options(parser)
    add_model_options(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--trials", type=whole_number(1), default=20, metavar="N", help="number of trials (default: %(default)s)")
    group.add_argument(
        "--sequence-lens",
        type=numbers(whole_number(2, 4096)),
        default="12,24,36,72",
        metavar="N,N",
        help="choices of --sequence-len (default: %(default)s)",
    )
    group.add_argument(
        "--widths",
        type=numbers(whole_number(1, 4096)),
        default="16,32,64,128",
        metavar="N,N",
        help="choices of --blocks (default: %(default)s)",
    )
    group.add_argument(
        "--learning-rates",
        type=numbers(number(above=0, maximum=10), count=2),
        default="3e-4,1e-2",
        metavar="MIN,MAX",
        help="range of --learning-rate (default: %(default)s)",
    )
    group.add_argument(
        "--output",
        type=parse_text,
        default="build/search.json",
        metavar="FILE",
        help="write every trial here (default: %(default)s)",
    )


def run_command(arguments: argparse.Namespace) -> None:
    """Search and show the best trials. Ctrl-C ends the search; the finished trials are kept."""
    model, options = model_config(arguments), fit_config(arguments)
    with usage_errors(arguments):
        space = SearchSpace(
            sequence_lens=arguments.sequence_lens, widths=arguments.widths, learning_rates=arguments.learning_rates
        )
    source = source_config(arguments)
    trials: list[Trial] = []
    try:
        with epoch_progress(options.epochs) as make_listener:
            for trial in search(source, model, options, space, arguments.trials, make_listener):
                trials.append(trial)
                _write(Path(arguments.output), trials)
    except KeyboardInterrupt:
        if not trials:
            raise
        console.print(f"interrupted after {len(trials)} of {arguments.trials} trials", style="yellow", highlight=False)
    show_trials(trials)
    console.print(f"fit the best: {format_fit_command(arguments.argv, trials)}", highlight=False, soft_wrap=True)


def show_trials(trials: Sequence[Trial]) -> None:
    """Show the best trials, lowest score first."""
    table = Table(
        "sequence_len", "blocks", "learning rate", "MAE / no change", "best epoch", "parameters", title="validation range"
    )
    for trial in sorted(trials, key=lambda trial: trial.score)[:MAX_SHOWN]:
        cells = (trial.model.sequence_len, trial.model.blocks, f"{trial.fit.learning_rate:g}", f"{trial.score:.4f}")
        table.add_row(*map(str, cells), str(trial.best_epoch), str(trial.parameters))
    console.print(table)


def format_fit_command(words: Sequence[str], trials: Sequence[Trial]) -> str:
    """Return the command that fits the best trial: the given words of `search` without its own options, with the trial's."""
    best = min(trials, key=lambda trial: trial.score)
    search_options = {"--trials", "--sequence-lens", "--widths", "--learning-rates", "--output"}
    search_options |= {"--sequence-len", "--blocks", "--learning-rate"}
    remaining: list[str] = []
    skip = False
    for word in words[1:]:
        name = word.split("=", 1)[0]
        own = len(name) > 2 and any(option.startswith(name) for option in search_options)  # an option may be abbreviated
        if not skip and not own:
            remaining.append(word)
        skip = not skip and own and "=" not in word
    chosen = ["--sequence-len", str(best.model.sequence_len), "--blocks", str(best.model.blocks)]
    rate = ["--learning-rate", f"{best.fit.learning_rate:g}"]
    return shlex.join(["python", "-m", "training", "fit", *remaining, *chosen, *rate])


def _write(path: Path, trials: Sequence[Trial]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(trial) for trial in trials], indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error
