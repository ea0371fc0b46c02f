"""The commands: each reads its options, calls the parts and shows what came of it."""

import argparse
from pathlib import Path

from training.cli.console import console, epoch_progress, show_data, show_metrics, show_replay
from training.cli.options import fit_config, model_config, source_config
from training.cli.redacted_command import tell
from training.export.publish import export_run, next_version, publish_run
from training.fitting.checkpoint import CHECKPOINT_FILE, Checkpointing
from training.fitting.fit_run import fit_run
from training.fitting.prepare import prepare, warnings_about
from training.fitting.run import read_run, write_run
from training.fitting.tensorboard import log_epochs


def fit_command(arguments: argparse.Namespace) -> None:
    """Fit a model and write its run directory."""
    source, model, options = source_config(arguments), model_config(arguments), fit_config(arguments)
    prepared = prepare(source, model)
    show_data(prepared, warnings_about(source, prepared))
    folder = Path(arguments.run)
    checkpointing = Checkpointing(path=folder / CHECKPOINT_FILE, resume=arguments.resume)
    if arguments.resume and not checkpointing.path.exists():
        console.print(f"note: no checkpoint in {folder}; starting afresh", style="yellow", highlight=False)
    with epoch_progress(options.epochs) as listener_of:
        listener = listener_of(model.model_type)
        if arguments.tensorboard:
            listener = log_epochs(Path(arguments.tensorboard), listener)
        run, weights = fit_run(
            source, model, options, prepared, command=tell(arguments.argv), listener=listener, checkpointing=checkpointing
        )
    write_run(folder, run, weights)
    if not run.interrupted:
        checkpointing.path.unlink(missing_ok=True)
    ended = " (ended by hand)" if run.interrupted else ""
    console.print(
        f"best epoch {run.best_epoch} of {len(run.history['loss'])}{ended}, validation loss {min(run.history['val_loss']):.4f}; "
        f"run written to {arguments.run}",
        highlight=False,
    )


def export_command(arguments: argparse.Namespace) -> None:
    """Export a run and publish it."""
    run, weights = read_run(Path(arguments.run))
    repository = Path(arguments.repository)
    version = arguments.version or next_version(repository, arguments.name)
    prepared = prepare(run.source, run.model)
    exported = export_run(
        run,
        weights,
        prepared,
        name=arguments.name,
        version=version,
        false_alarms_per_day=arguments.false_alarms_per_day,
        batch_graph=arguments.batch_graph,
    )
    folder = publish_run(repository, run, exported, title=arguments.title, command=tell(arguments.argv))
    if exported.manifest.metrics:
        show_metrics(exported.manifest.metrics, run.names, run.model.steps_ahead)
    if exported.replay is not None:
        show_replay(exported.replay, arguments.false_alarms_per_day, (), run.window_seconds)
    if exported.batch_graph is not None:
        gains = ", ".join(f"{one / other:.2f} at {batch:,}" for batch, (one, other) in exported.batch_graph.microseconds.items())
        timed = f" Times as fast as the first, by the number of windows: {gains}." if gains else ""
        console.print(exported.batch_graph.note + timed, highlight=False)
    console.print(f"parity error {exported.parity_error:.1e}; published {folder}", highlight=False)
