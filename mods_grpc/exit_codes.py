"""Exit codes of all commands, and how errors end one: one line on standard error, no traceback."""

import errno
import os
import sys
from collections.abc import Callable

from mods_grpc.errors import ModsError

EXIT_OK = 0
EXIT_FAILED = 1
"""The command failed: data, a model, the server or a file; of `serve`, see `mods_grpc.server.main.run`."""
EXIT_USAGE = 2
"""Called wrongly, as argparse reports it too, or a package is not installed; of `serve`, the server could not start."""
EXIT_DOUBTFUL = 3
"""Finished, but what was read can't be trusted: nothing was, or too much of it was dropped; the last line says why."""
EXIT_INTERRUPTED = 130
"""Interrupted by SIGINT, as shells report it."""

_NO_SPACE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}

Advice = Callable[[ModsError], str | None]
"""Returns what to do about an error; None if its message says it all."""


def run_command(command: Callable[[], int], advise: Advice = lambda _error: None) -> int:
    """Run a command and return its exit code, or that of the error that it raised.

    Args:
        command: The command. Errors other than ModsError, OSError, UnicodeDecodeError and KeyboardInterrupt are defects and pass.
        advise: Gives the hint that is printed after an error.
    """
    try:
        code = command()
        sys.stdout.flush()
    except ModsError as error:
        print_error(error.message)
        if (hint := advise(error)) is not None:
            sys.stderr.write(f"hint: {hint}\n")
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        print_error(describe_os_error(error))
        _discard_output()
    except UnicodeDecodeError:
        print_error("expected text in UTF-8")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    else:
        return code
    return EXIT_FAILED


def describe_os_error(error: OSError) -> str:
    """Return what failed and why, such as `x.csv: No such file or directory`."""
    if error.filename is not None:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{' and '.join(names)}: {error.strerror}"
    if error.errno in _NO_SPACE:  # files give their name, see `atomic_file.errors_named`
        return f"standard output: {error.strerror}"
    return str(error)


def _discard_output() -> None:
    """Let standard output go nowhere if it can't be written, or else the interpreter complains when it flushes."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(message: str) -> None:
    """Write `error: MESSAGE` as one line to standard error."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
