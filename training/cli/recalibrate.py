"""The command `recalibrate`: a published model with its calibration made anew, as a version of its own."""

import argparse
from pathlib import Path

from mods_grpc.artifact import CARD_FILE, PARITY_FILE, publish
from training.cli.console import console, show_replay
from training.cli.evaluate import read_version
from training.cli.redacted_command import tell
from training.data.source import SourceConfig
from training.export.model_card import recalibrated_card
from training.export.publish import next_version
from training.export.recalibrate import recalibrate


def recalibrate_command(arguments: argparse.Namespace) -> None:
    """Calibrate a published version anew and publish the result."""
    folder = Path(arguments.model)
    artifact = read_version(folder)
    repository = Path(arguments.repository) if arguments.repository else folder.parent.parent
    version = arguments.version or next_version(repository, artifact.manifest.name)
    later = arguments.calibration_time_range
    source = SourceConfig.of_model(artifact.manifest, {"csv": arguments.csv, "datapool": arguments.datapool})
    found = recalibrate(artifact, source, version=version, calibration_time_range=later)
    manifest = found.manifest
    card = recalibrated_card(
        (folder / CARD_FILE).read_text(encoding="utf-8"), manifest, found.replay, command=tell(arguments.argv)
    )
    contents = {**artifact.graphs, PARITY_FILE: artifact.parity, CARD_FILE: card.encode()}
    published = publish(repository, manifest, contents)
    if found.replay is not None:
        show_replay(found.replay, manifest.false_alarms_per_day, (), manifest.window_seconds)
    console.print(f"calibrated on {manifest.calibration.samples} rows; published {published}", highlight=False)
