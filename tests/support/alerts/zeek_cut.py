"""A stand-in for Zeek's zeek-cut: its choice of columns, its options -c, -C, -d and -u, and the header of each file."""

import sys
from datetime import UTC, datetime
from pathlib import Path


def install(folder: Path) -> None:
    """Write it into a folder that is then put on the PATH."""
    program = folder / "zeek-cut"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    program.chmod(0o755)


def main(arguments: list[str]) -> None:
    """Cut the columns out of the log on standard input."""
    options = {word for word in arguments if word.startswith("-")}
    wanted = [word for word in arguments if not word.startswith("-")]
    fields: list[str] = []
    types: list[str] = []
    for raw in sys.stdin.buffer:
        line = raw.decode("utf-8", "surrogateescape").rstrip("\n")
        if line.startswith("#"):
            name, *cells = line.split("\t")
            fields = cells if name == "#fields" else fields
            types = cells if name == "#types" else types
            if {"-c", "-C"} & options:
                head = name in {"#fields", "#types"}
                _write("\t".join([name, *_cut(cells, fields, wanted)]) if head else line)
            continue
        cells = [_format(cell, kind, options) for cell, kind in zip(line.split("\t"), types, strict=True)]
        _write("\t".join(_cut(cells, fields, wanted)))


def _cut(cells: list[str], fields: list[str], wanted: list[str]) -> list[str]:
    by_name = dict(zip(fields, cells, strict=True))
    return [by_name.get(name, "") for name in wanted] if wanted else cells


def _format(cell: str, kind: str, options: set[str]) -> str:
    if kind != "time" or cell == "-" or not {"-u", "-d"} & options:
        return cell
    when = datetime.fromtimestamp(float(cell), UTC)
    return (when if "-u" in options else when.astimezone()).strftime("%Y-%m-%dT%H:%M:%S%z")


def _write(line: str) -> None:
    sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
