"""The command `recalibrate`: a published model calibrated again, published as a new version."""

import argparse
from pathlib import Path

from mods_grpc.artifact import CARD_FILE, PARITY_FILE, publish
from mods_grpc.command_line import parse_optional_text, whole_number
from mods_grpc.detection import BudgetReach
from training.cli.console import console, format_command, show_reach, show_replay
from training.cli.options import MAX_VERSION, add_model_version_options, find_model_version, optional
from training.data.source import SourceConfig
from training.data.time_range import parse_interval
from training.export.calibration import recalibrate
from training.export.model_card import write_recalibrated_card
from training.export.versions import next_version


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `recalibrate`."""
    add_model_version_options(parser)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument(
        "--datapool",
        type=parse_optional_text,
        default="",
        metavar="DIR",
        help="datapool of the training run; other options as in the run",
    )
    data.add_argument(
        "--csv",
        type=parse_optional_text,
        default="",
        metavar="FILE",
        help="table of the training run; other options as in the run",
    )
    parser.add_argument(
        "--calibration-time-range",
        type=optional(parse_interval),
        default="",
        metavar="RANGE",
        help="a later range to calibrate on (default: the model's)",
    )
    parser.add_argument(
        "--version",
        type=whole_number(1, MAX_VERSION),
        default=0,
        metavar="N",
        help="version to publish (default: the highest published plus 1)",
    )


def run_command(arguments: argparse.Namespace) -> None:
    """Calibrate a published version again and publish the result."""
    folder, artifact = find_model_version(arguments)
    repository = Path(arguments.repository) if arguments.repository else folder.parent.parent
    version = arguments.version or next_version(repository, artifact.manifest.name)
    source = SourceConfig.from_manifest(artifact.manifest, {"csv": arguments.csv, "datapool": arguments.datapool})
    recalibration = recalibrate(artifact, source, version=version, calibration_time_range=arguments.calibration_time_range)
    manifest = recalibration.manifest
    old_card = (folder / CARD_FILE).read_text(encoding="utf-8")
    card = write_recalibrated_card(old_card, manifest, recalibration.replay, command=format_command(arguments.argv))
    contents = {**artifact.graphs, PARITY_FILE: artifact.parity, CARD_FILE: card.encode()}
    published = publish(repository, manifest, contents)
    if recalibration.replay is not None:
        show_replay(recalibration.replay, manifest.false_alarms_per_day, (), manifest.window_seconds)
    show_reach(BudgetReach.of(manifest, manifest.false_alarms_per_day))
    console.print(f"calibrated on {manifest.calibration.samples} rows; published {published}", highlight=False)
