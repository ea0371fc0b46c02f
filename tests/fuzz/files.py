"""Folders of log files: names, compressions, copies and links as set-ups and accidents leave them."""

import bz2
import gzip
import lzma
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import lz4.frame
from backports import zstd

from tests.support.ids.damaged_logs import damage_file

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
    ".lz4": lz4.frame.compress,
}
STEMS = (
    *(
        "conn",
        "dns",
        "http",
        "ssl",
        "ssh",
        "sip",
        "eve",
        "eve.1",
        "eve.2",
        "all",
        "host_dns",
        "open_conn",
        "conn_long",
        "conn-summary",
    ),
    *(
        "json_streaming_conn",
        "conn-json",
        "weird",
        "notice",
        "x509",
        "known_hosts",
        "files",
        "stats",
        "suricata",
        "fast",
        "",
        "conn\n",
        "ü",
    ),
    *(
        "logger-1/conn",
        "logger-2/conn",
        "sensorA/conn",
        "sensorB/dns",
        "current/conn",
        "2024-04-19/conn",
        "2024/04/19/eve",
        "CONN",
    ),
)
STAMPS = (
    *(
        "",
        "",
        "",
        ".00:00:00-01:00:00",
        ".01:00:00-02:00:00",
        ".2024-04-19-00-00-00",
        "-2024-04-19",
        "_20240419_00:00:00-01:00:00+0000",
    ),
    *(
        "-20240419",
        ".1713484800",
        "-1713484800",
        ".1",
        "-00001",
        ".00:00:00-01:00:00-logger-1",
        " copy",
        "(1)",
        "-99999999",
        ".2024-13-45",
    ),
)
EXTENSIONS = (".log", ".log", ".log", ".json", ".json", ".jsonl", ".ndjson", ".log.labeled", ".txt", ".tsv", "", ".LOG", ".csv")
ROTATIONS = ("", "", "", ".1", ".2", ".10", "-20240418", "-2024041801", ".old", ".bak", "~", ".tmp", ".swp", ".1713484800", ".0")


def make_name(draw: random.Random) -> str:
    """Return a name that a log file may have."""
    name = draw.choice(STEMS) + draw.choice(STAMPS) + draw.choice(EXTENSIONS) + draw.choice(ROTATIONS)
    return name if name.strip("/") else "x.log"


def write_files(draw: random.Random, folder: Path, make_text: Callable[[random.Random], bytes]) -> None:
    """Write a few files, with copies, links and what is no file."""
    paths: list[Path] = []
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        name, text = make_name(draw), make_text(draw)
        suffix = draw.choice(("", "", *COMPRESSIONS))
        content = COMPRESSIONS[suffix](text) if suffix else text
        if draw.random() < 0.2:
            content = damage_file(draw, content, packed=False)
        if suffix and draw.random() < 0.2:
            content = content[: draw.randrange(len(content) + 1)] + draw.choice((b"", b"", COMPRESSIONS[suffix](text)))
        path = folder / (name + (suffix if draw.random() < 0.9 else draw.choice(("", ".gz", ".zip"))))
        with suppress(OSError):  # the name is that of a folder
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            paths.append(path)
    for _ in range(draw.choice((0, 0, 1, 2))):
        with suppress(OSError):
            _add_other(draw, folder, paths)


def add_copies(draw: random.Random, folder: Path) -> list[Path]:
    """Add copies and links of some files of a folder as people and programs do; return paths that name some of it again."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    for _ in range(draw.choice((0, 1, 1, 2))):
        source = draw.choice(files)
        kind = draw.randrange(5)
        with suppress(OSError):
            if kind == 0 and not source.name.endswith(tuple(COMPRESSIONS)):
                suffix = draw.choice(tuple(COMPRESSIONS))
                source.with_name(source.name + suffix).write_bytes(COMPRESSIONS[suffix](source.read_bytes()))
            elif kind == 1:
                source.with_name(f"latest-{source.name}").symlink_to(source)
            elif kind == 2:
                os.link(source, source.with_name(f"conn.{source.name}"))
            elif kind == 3:
                (folder / "latest").symlink_to(source.parent, target_is_directory=True)
            else:
                backup = folder / "backup" / source.relative_to(folder)
                backup.parent.mkdir(parents=True, exist_ok=True)
                backup.write_bytes(source.read_bytes())
    return draw.choice(([], [], [folder], [draw.choice(files)], [draw.choice(files), draw.choice(files).parent]))


def _add_other(draw: random.Random, folder: Path, paths: list[Path]) -> None:
    new = folder / make_name(draw)
    new.parent.mkdir(parents=True, exist_ok=True)
    kind = draw.randrange(9)
    if kind == 0 and paths:
        new.symlink_to(draw.choice(paths))
    elif kind == 1 and paths:
        os.link(draw.choice(paths), new)
    elif kind == 2 and paths:
        new.write_bytes(draw.choice(paths).read_bytes())
    elif kind == 3 and paths:
        source = draw.choice(paths)
        (source.parent / f"{source.name}.gz").write_bytes(gzip.compress(source.read_bytes()))
    elif kind == 4:
        new.symlink_to(folder / "nowhere")
    elif kind == 5:
        new.symlink_to(folder, target_is_directory=True)
    elif kind == 6:
        os.mkfifo(new)
    elif kind == 7:
        new.mkdir()
    else:
        (folder / os.fsdecode(b"conn\xff.log")).write_bytes(b"x")
