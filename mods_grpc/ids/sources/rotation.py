"""The parts of log files by their former names."""

from collections.abc import Container
from pathlib import Path

from mods_grpc.ids.sources import log_files
from mods_grpc.ids.sources.identity import HEAD_BYTES, FileIdentity, drop_copies, find_file, read_head
from mods_grpc.ids.sources.log_files import LogFile, find_logs
from mods_grpc.ids.sources.text_file import open_log

GZIP_ERRORS: tuple[type[Exception], ...] = ()

__all__ = [
    "GZIP_ERRORS",
    "HEAD_BYTES",
    "FileIdentity",
    "LogFile",
    "classify",
    "drop_copies",
    "find_file",
    "find_logs",
    "open_log",
    "read_head",
]


def classify(path: Path, protocols: Container[str], *, explicit: bool = False) -> LogFile | None:
    """Return the file as part of its log; None if it is not a log of interest."""
    file = log_files.classify(path, protocols, explicit=explicit)
    return file if isinstance(file, LogFile) else None
