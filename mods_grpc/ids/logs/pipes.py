"""Logs that come through a pipe, which can be read only once: they are copied to files first."""

import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mods_grpc.errors import DataError
from mods_grpc.exit_codes import describe_os_error

STANDARD_INPUT = Path("/dev/stdin")


@contextmanager
def copying_pipes(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield paths, with files in place of those that are pipes; they are deleted when the block ends.

    Args:
        paths: Files, folders and pipes; `-` is the standard input.

    Raises:
        DataError: A pipe can't be copied.
    """
    with ExitStack() as stack:
        yield [_copy(path, stack) for path in paths]


def _copy(path: Path, stack: ExitStack) -> Path:
    """Return a path, or a copy of the pipe that it is, in a folder of its own; containers may have none to make it in."""
    path = STANDARD_INPUT if str(path) == "-" else path
    try:
        if not stat.S_ISFIFO(path.stat().st_mode):
            return path
    except OSError:
        return path  # which is said where it is read
    try:
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mods-grpc-")), path.name)
        with path.open("rb") as pipe, copy.open("wb") as file:
            shutil.copyfileobj(pipe, file, 1 << 20)
        with copy.open("rb") as file:
            is_json = file.read(1) == b"{"
    except OSError as error:
        hint = "give files, which may be compressed, or set TMPDIR to a folder with more space"
        raise DataError(f"{path}: is a pipe and could not be copied to a file: {describe_os_error(error)}; {hint}") from error
    return copy.rename(copy.with_suffix(".json")) if is_json else copy
