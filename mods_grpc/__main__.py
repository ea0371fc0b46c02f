"""Starts the `mods-grpc` command line; imports little before signals are safe, because the imports take most of a start."""

import signal
import sys

HARMLESS_NAMES = ("SIGHUP", "SIGUSR1", "SIGUSR2")  # reload, and what log rotation sends; Windows has none of them


def main() -> int:
    """Run the command of the process's arguments and return its exit code."""
    if sys.argv[1:2] == ["serve"]:
        for name in HARMLESS_NAMES:  # each would end a server that has no handler for it yet
            if number := getattr(signal, name, None):
                signal.signal(number, signal.SIG_IGN)
    from mods_grpc.cli.main import main as run  # noqa: PLC0415 - see above

    return run()


if __name__ == "__main__":
    sys.exit(main())
