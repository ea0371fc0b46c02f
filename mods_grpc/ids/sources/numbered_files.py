"""Whether the number in a name like `eve.1.json` is of one of Suricata's threads, or of a rotation that keeps the extension.

Logrotate's `extension .json` turns `eve.json` into `eve.1.json`, then `eve.2.json`. Suricata's threads write to files of such
names all the time, and never to `eve.json`, which may still be there from before.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.ids.sources import file_names
from mods_grpc.ids.sources.file_names import LogName
from mods_grpc.ids.sources.log_files import LogFile
from mods_grpc.ids.sources.text_file import SUFFIXES

_MAX_OVERLAP_NS = 60 * NANOS_PER_SECOND  # of files that follow each other
_THREAD = re.compile(r"(.+)\.(\d{1,3})")


class NumberedFiles:
    """Tells rotations from threads, by the times in the files and by what they were taken for before.

    Args:
        began_ns: Returns when the first record of a file was logged, nanoseconds since 1970; 0 if it has none.
        newest_ns: Returns when the last record of a file was logged, 0 if it is not known.
    """

    def __init__(self, began_ns: Callable[[LogFile], int], newest_ns: Callable[[LogFile], int]) -> None:
        self._began_ns, self._newest_ns = began_ns, newest_ns
        self._are_rotations: dict[tuple[Path, str], bool] = {}

    def resolve(self, folder: Path, files: Sequence[LogFile], followed: Collection[str], explicit: str | None) -> list[LogFile]:
        """Return the files of a live folder, each as one of the log that it belongs to.

        Args:
            folder: The folder.
            files: The files, with their numbers taken for those of threads.
            followed: Names of the logs that are followed.
            explicit: Name of the log of which the user named the file without a number; None if he named none.
        """
        numbered: defaultdict[str, list[LogFile]] = defaultdict(list)
        for file in files:
            if file_names.parse_name(file.path.name).is_numbered:
                numbered[thread_of(file.log)].append(file)
        rotations: set[Path] = set()
        for log, each in numbered.items():
            key = folder, log
            if key not in self._are_rotations and any(file.log in followed for file in each):
                self._are_rotations[key] = False
            elif key not in self._are_rotations and (log in followed or log.rpartition("/")[2] == explicit):
                self._are_rotations[key] = True
            plain = next((file for file in files if file.log == log and not file.rotated), None)
            if self._follow_each_other(plain, each, self._are_rotations.get(key)):
                self._are_rotations[key] = True
                rotations.update(file.path for file in each)
            else:
                self._are_rotations[key] = False
        return [as_rotation(file) if file.path in rotations else file for file in files]

    def take_for_rotations(self, folder: Path, log: str) -> None:
        """Take the numbers of a log for those of rotations from now on."""
        self._are_rotations[folder, log] = True

    def _follow_each_other(self, plain: LogFile | None, numbered: Sequence[LogFile], before: bool | None) -> bool:
        """Return whether numbered files are rotations, given what they were taken for before; None if there were none."""
        if before is False:
            return False
        plain_ns = self._began_ns(plain) if plain else 0
        if not plain_ns and before is None:
            return any(file.path.name.endswith(SUFFIXES) for file in numbered)  # threads write plain files
        next_ns = plain_ns
        for began_ns, file in sorted([(self._began_ns(file), file) for file in numbered], key=lambda each: -each[0]):
            is_copy = began_ns == next_ns
            if 0 < plain_ns < began_ns or (next_ns and not is_copy and self._newest_ns(file) > next_ns + _MAX_OVERLAP_NS):
                return False
            next_ns = began_ns or next_ns
        return True


def as_rotation(file: LogFile) -> LogFile:
    """Return a file with a number in its name as a rotated one."""
    name: LogName = file_names.parse_name(file.path.name)
    order = False, file.order[1], -(int(name.writer) or 1), file.order[3]
    return replace(file, log=thread_of(file.log), rotated=True, order=order)


def thread_of(log: str) -> str:
    """Return the name of the log of which a log is the part of one thread, as `eve` of `eve.1`; empty if it is none."""
    match = _THREAD.fullmatch(log)
    return match[1] if match else ""
