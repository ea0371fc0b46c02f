"""The command `fit`: data in, a run directory out."""

import argparse
from pathlib import Path

from mods_grpc.command_line import parse_optional_text, parse_text
from training.cli.console import console, epoch_progress, format_command, show_data
from training.cli.options import add_model_options, add_source_options, fit_config, model_config, source_config
from training.fitting.checkpoint import CHECKPOINT_FILE, CheckpointOptions
from training.fitting.prepare import list_warnings, prepare_data
from training.fitting.run import write_run


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `fit`."""
    add_source_options(parser)
    add_model_options(parser)
    parser.add_argument(
        "--run", type=parse_text, default="build/run", metavar="DIR", help="write the run here (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="continue an interrupted fit after its last finished epoch")
    parser.add_argument(
        "--tensorboard", type=parse_optional_text, default="", metavar="DIR", help="write the losses as TensorBoard logs"
    )


def run_command(arguments: argparse.Namespace) -> None:
    """Fit a model and write its run directory."""
    model, options = model_config(arguments), fit_config(arguments)
    source = source_config(arguments)
    data = prepare_data(source, model)
    show_data(data, list_warnings(source, data))
    from training.fitting.fit_run import fit_run  # noqa: PLC0415  # TensorFlow takes seconds to load: what is wrong with options and data is said first

    folder = Path(arguments.run)
    checkpoints = CheckpointOptions(path=folder / CHECKPOINT_FILE, resume=arguments.resume)
    if arguments.resume and not checkpoints.path.exists():
        console.print(f"note: no checkpoint in {folder}; starting from the first epoch", style="yellow", highlight=False)
    with epoch_progress(options.epochs) as make_listener:
        listener = make_listener(model.model_type)
        if arguments.tensorboard:
            from training.fitting.tensorboard import log_epochs  # noqa: PLC0415  # as above

            listener = log_epochs(Path(arguments.tensorboard), listener)
        run, weights = fit_run(
            source, model, options, data, command=format_command(arguments.argv), listener=listener, checkpoints=checkpoints
        )
    write_run(folder, run, weights)
    if not run.interrupted:
        checkpoints.path.unlink(missing_ok=True)
    interrupted = " (interrupted)" if run.interrupted else ""
    console.print(
        f"best epoch {run.best_epoch} of {len(run.history['loss'])}{interrupted}, "
        f"validation loss {min(run.history['val_loss']):.4f}; run written to {folder}",
        highlight=False,
    )
