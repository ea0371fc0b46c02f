"""`mods-grpc models`: list what the server serves."""

import argparse

from mods_grpc.cli.arguments import add_command, connection_arguments, open_client
from mods_grpc.cli.output import print_models, write_json
from mods_grpc.client import ModelState
from mods_grpc.exit_codes import EXIT_FAILED, EXIT_OK, print_error


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
