"""The datapool: one file per protocol and day, `protocol/YYYY/MM/DD/w01h-s10m.tsv`, named by window and slide.

Until a datapool is whole it lies in a hidden folder beside its own, or in it if that exists: `.pool.unfinished`.

Where the windows are of several series, each series has its own folder that holds a datapool:
`10.1.2.0%2F24/conn/2026/01/05/w01h-s10m.tsv`. To read one of them, name its folder.
"""

import re
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from pathlib import Path
from urllib.parse import quote

from mods_grpc.data.units import SECONDS_PER_UNIT, format_span
from mods_grpc.errors import DataError

WINDOW_START = "window_start"
WINDOW_END = "window_end"
JOIN_COLUMNS = (WINDOW_START, WINDOW_END)
DEFAULT_WINDOW_SLIDE = "w01h-s10m"
UNFINISHED_SUFFIX = ".unfinished"

_MAX_NAME_CHARACTERS = 120
_WINDOW_SLIDE = re.compile(r"w(\d{1,9})([smhd])-s(\d{1,9})([smhd])")
_UNFINISHED = re.compile(rf"(?:^|/)\.[^/]*{re.escape(UNFINISHED_SUFFIX)}/")
_FILE = re.compile(rf"(?:.*/)?([^/]+)/(\d{{4}})/(\d{{2}})/(\d{{2}})/({_WINDOW_SLIDE.pattern})\.tsv")


@dataclass(frozen=True, kw_only=True, slots=True)
class DatapoolFile:
    """What the path of a file says: protocol, UTC day, and window and slide as in `w01h-s10m`."""

    protocol: str
    day: date
    window_slide: str


def format_window_slide(window_seconds: int, slide_seconds: int) -> str:
    """Return the name that files of a window and slide have, without `.tsv`: `w01h-s10m`."""
    return f"w{format_span(window_seconds)}-s{format_span(slide_seconds)}"


def parse_window_slide(text: str) -> tuple[int, int]:
    """Read `w01h-s10m` as window and slide in seconds.

    Raises:
        DataError: Not such a name, or a slide that is not in (0, window].
    """
    match = _WINDOW_SLIDE.fullmatch(text)
    if not match:
        raise DataError(f"window_slide is {text!r}, expected the form {DEFAULT_WINDOW_SLIDE}")
    window = int(match[1]) * SECONDS_PER_UNIT[match[2]]
    slide = int(match[3]) * SECONDS_PER_UNIT[match[4]]
    if not 0 < slide <= window:
        raise DataError(f"window_slide is {text!r}, expected a slide above 0 and not above the window")
    return window, slide


def day_file(root: Path, protocol: str, day: date, window_slide: str) -> Path:
    """Return the path of the file of one protocol and UTC day."""
    return root / protocol / f"{day:%Y/%m/%d}" / f"{window_slide}.tsv"


def parse_path(path: str) -> DatapoolFile | None:
    """Read the path of a file, with any folders before the protocol; None if it is of no datapool, or of an unfinished one.

    Raises:
        DataError: It has the form, but there is no such day.
    """
    match = _FILE.fullmatch(path)
    if not match or _UNFINISHED.search(path):
        return None
    try:
        day = date(int(match[2]), int(match[3]), int(match[4]))
    except ValueError as error:
        raise DataError(f"{path}: {match[2]}/{match[3]}/{match[4]} is not a day") from error
    return DatapoolFile(protocol=match[1], day=day, window_slide=match[5])


def unfinished_folders(root: Path) -> tuple[Path, Path]:
    """Return the folders in which a datapool may lie until it is whole: beside its folder, or in it."""
    root = root.resolve()
    name = f".{root.name}{UNFINISHED_SUFFIX}"
    return root.with_name(name), root / name


def find_unfinished(root: Path) -> Path | None:
    """Return the folder of a datapool that was never finished, or is being written; None if there is none."""
    return next((folder for folder in unfinished_folders(root) if folder.is_dir()), None)


def series_folder(series: str) -> str:
    """Return the name of a series' folder: percent-encoded, valid on any file system, different for different series.

    A long name is cut and ends in a digest of the whole.
    """
    name = quote(series, safe="")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _MAX_NAME_CHARACTERS:
        name = name[: _MAX_NAME_CHARACTERS - 17] + "~" + blake2b(series.encode(), digest_size=8).hexdigest()
    return name
