"""Small data for the tests, and where the real data lies."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

REAL_DATA = Path(os.environ.get("MODS_DATA", Path(__file__).parents[3] / "shared" / "data"))
DATAPOOL = REAL_DATA / "mods-datapool"

needs_datapool = pytest.mark.skipif(not DATAPOOL.is_dir(), reason=f"no MODS datapool in {REAL_DATA} (set MODS_DATA)")
needs_mods_2019 = pytest.mark.skipif(
    not (REAL_DATA / "mods-2019").is_dir(), reason=f"no mods-2019 in {REAL_DATA} (set MODS_DATA)"
)

Rows = Sequence[tuple[str, Mapping[str, str]]]
"""Rows of a file: start of the window, and text by column."""


def file_text(rows: Rows, end_shift_hours: int = 1) -> str:
    columns = list(rows[0][1])
    lines = ["\t".join(["window_start", "window_end", *columns])]
    for start, cells in rows:
        hour = int(start[11:13]) + end_shift_hours
        end = f"{start[:11]}{hour:02d}{start[13:]}"
        lines.append("\t".join([f"{start}.000Z", f"{end}.000Z", *(cells[column] for column in columns)]))
    return "\n".join(lines) + "\n"


def write_day(root: Path, protocol: str, day: str, text: str, window_slide: str = "w01h-s10m") -> Path:
    path = root / protocol / day.replace("-", "/") / f"{window_slide}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def zip_days(root: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.rglob("*.tsv")):
            archive.write(path, path.relative_to(root).as_posix())


def times(count: int, day: str = "2019-06-01") -> list[str]:
    return [f"{day}T{i // 6:02d}:{i % 6}0:00" for i in range(count)]
