"""The commands that list: `mods-grpc models` what a server serves, `mods-grpc features` the columns that models can use."""

import argparse
from typing import Any

from rich.table import Table

from mods_grpc.cli.arguments import add_command, connection_arguments, open_client
from mods_grpc.cli.output import make_console, print_models, write_json
from mods_grpc.client import ModelState
from mods_grpc.exit_codes import EXIT_FAILED, EXIT_OK, print_error
from mods_grpc.features.definitions import FEATURES, Definition, Feature
from mods_grpc.features.presets import PRESETS
from mods_grpc.features.presets.descriptions import DIRECTION_TEXTS, describe
from mods_grpc.features.records import PROTOCOLS


def add_models_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `models` command."""
    parser = add_command(commands, "models", "list the models that the server serves", [connection_arguments()])
    parser.set_defaults(run=run_models)


def run_models(arguments: argparse.Namespace) -> int:
    """List all versions of all models."""
    with open_client(arguments) as client:
        models = client.models()
    if arguments.json:
        write_json(models)
    else:
        print_models(models)
    if any(model.state is ModelState.READY for model in models):
        return EXIT_OK
    print_error("no model is ready, so the server can't answer; its log says why")
    return EXIT_FAILED


def add_features_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the `features` command."""
    parser = add_command(commands, "features", "list the columns of tables and models, and the attacks that each shows")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--preset", choices=list(PRESETS), help="list the columns of a preset alone")
    chosen.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS), help="logs (default: all)")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=run_features)


def run_features(arguments: argparse.Namespace) -> int:
    """List columns and presets."""
    if arguments.preset:
        features = Definition.of(PRESETS[arguments.preset].keys).features
    else:
        features = tuple(feature for feature in FEATURES if feature.protocol in arguments.protocols)
    if arguments.json:
        presets = {name: {"purpose": preset.purpose, "columns": preset.keys} for name, preset in PRESETS.items()}
        write_json({"columns": [_to_json(feature) for feature in features], "presets": presets})
        return EXIT_OK
    table = Table("column", "counts", "shows", box=None, pad_edge=False)
    for feature in features:
        table.add_row(feature.key, describe(feature), feature.measure.shows)
    console = make_console()
    console.print(table)
    console.print("".join(f"\n{direction}: {text}" for direction, text in DIRECTION_TEXTS.items()))
    for name, preset in PRESETS.items():
        console.print(f"--preset {name}: {preset.purpose}; {len(preset.keys)} columns")
    return EXIT_OK


def _to_json(feature: Feature) -> dict[str, Any]:
    return {
        "column": feature.key,
        "direction": DIRECTION_TEXTS[feature.direction],
        "counts": describe(feature),
        "shows": feature.measure.shows,
        "presets": [name for name, preset in PRESETS.items() if feature.key in preset.keys],
    }
