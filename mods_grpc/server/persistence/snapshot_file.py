r"""The state file: all series of all models on disk, replaced atomically and verified by a digest when read.

```
mods-grpc state 3\n
SHA-256 of the rest, in hexadecimal\n
npz: "header" (JSON as bytes), and for chunk number i each array of its SeriesSnapshot as "i.<field>"
```
"""

import base64
import dataclasses
import hashlib
import json
import stat
from collections import deque
from collections.abc import Mapping, Sequence
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from mods_grpc.atomic_file import replacing
from mods_grpc.server.models.unserved import ModelSeries
from mods_grpc.server.series.replay_cache import CachedReplies, CachedReply
from mods_grpc.server.series.snapshot import SeriesSnapshot, capture

MAGIC = b"mods-grpc state 3\n"
DIGEST_BYTES = 65  # hexadecimal digits and the line end
MAX_FILE_BYTES = 16 << 30
_ARRAYS = tuple(item.name for item in dataclasses.fields(SeriesSnapshot) if item.name not in ("sensors", "names", "answers"))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SavedModel:
    """All or some series of one model version, see `ModelSeries`.

    Attributes:
        stale: Those of their sensors whose series may lack observations.
    """

    name: str
    version: int
    digest: str
    grid: Any
    series: SeriesSnapshot
    pinned: bool = False
    stale: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SavedState:
    """Content of a state file. Chunks of one model are adjacent.

    Attributes:
        complete: Whether all streams had ended when it was written.
        journal: Names the state in the journal of what changed since; empty where none is kept.
    """

    models: tuple[SavedModel, ...]
    complete: bool
    journal: str = ""


def take_snapshot(model: ModelSeries, sensors: Sequence[str]) -> SavedModel:
    """Copy the state of the series of some sensors of a model."""
    return SavedModel(
        name=model.name,
        version=model.version,
        digest=model.digest,
        grid=model.grid,
        series=capture(model.series, sensors),
        pinned=model.pinned,
        stale=tuple(sorted(model.series.stale_sensors & set(sensors))),
    )


def write_state(path: Path, state: SavedState) -> None:
    """Replace the state file.

    Raises:
        OSError: It can't be written; the old file is unchanged.
    """
    arrays: dict[str, Any] = {}
    chunks = []
    for number, model in enumerate(sorted(state.models, key=lambda model: model.pinned)):
        series = model.series
        arrays |= {f"{number}.{name}": getattr(series, name) for name in _ARRAYS}
        chunk = {
            "name": model.name,
            "version": model.version,
            "digest": model.digest,
            "grid": model.grid,
            "stale": model.stale,
            "sensors": series.sensors,
            "names": series.names,
            "answers": {sensor: [list(map(_to_base64, pair)) for pair in replies] for sensor, replies in series.answers.items()},
        }
        chunks.append(chunk)
    pinned = sum(model.pinned for model in state.models)
    header = {
        "complete": state.complete and not any(model.stale for model in state.models),  # for versions that don't read the others
        "drained": state.complete,
        "journal": state.journal,
        "models": chunks[: len(chunks) - pinned],
        "pinned": chunks[len(chunks) - pinned :],
    }
    with replacing(path) as file:  # array by array: no second copy in memory, and the GIL is never held for long
        file.write(MAGIC + bytes(DIGEST_BYTES))
        np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
        digest = _digest(file)
        file.seek(len(MAGIC))
        file.write(digest)


def read_state(path: Path) -> SavedState:
    """Read a state file.

    Raises:
        OSError: It can't be read.
        ValueError: It is damaged, too large or not a state file of this version.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # reading a FIFO would wait for a writer
        raise ValueError("it is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError("it is too large")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin like a state file of this version")
        if file.read(DIGEST_BYTES) != _digest(file):
            raise ValueError("its digest differs, so it is damaged")
        file.seek(len(MAGIC) + DIGEST_BYTES)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return _read_content(arrays)
        except Exception as error:  # zipfile, numpy and the header's fields each have errors of their own
            raise ValueError("it was written by another version") from error


def _digest(file: BufferedRandom | BufferedReader) -> bytes:
    """Return the digest line of the file: the SHA-256 of everything after that line."""
    file.seek(len(MAGIC) + DIGEST_BYTES)
    return hashlib.file_digest(file, "sha256").hexdigest().encode() + b"\n"


def _read_content(arrays: Mapping[str, Any]) -> SavedState:
    header = json.loads(arrays["header"].tobytes())
    complete = bool(header.get("drained", header["complete"]))
    chunks = [*header["models"], *header.get("pinned", ())]
    models = tuple(
        _read_model(chunk, number, arrays, pinned=number >= len(header["models"]), complete=complete)
        for number, chunk in enumerate(chunks)
    )
    return SavedState(models=models, complete=complete, journal=str(header.get("journal", "")))


def _read_model(chunk: Mapping[str, Any], number: int, arrays: Mapping[str, Any], *, pinned: bool, complete: bool) -> SavedModel:
    """Read a chunk. In files of earlier versions it has no `stale`."""
    answers: dict[str, CachedReplies] = {
        sensor: deque(CachedReply(*map(base64.b64decode, pair)) for pair in replies)
        for sensor, replies in chunk["answers"].items()
    }
    series = SeriesSnapshot(
        sensors=tuple(map(str, chunk["sensors"])),
        names=tuple(map(str, chunk["names"])),
        answers=answers,
        **{name: arrays[f"{number}.{name}"] for name in _ARRAYS},
    )
    series.check()
    return SavedModel(
        name=str(chunk["name"]),
        version=int(chunk["version"]),
        digest=str(chunk["digest"]),
        grid=_to_tuples(chunk["grid"]),
        series=series,
        pinned=pinned,
        stale=tuple(map(str, chunk.get("stale", () if complete else series.sensors))),
    )


def _to_tuples(value: Any) -> Any:
    """Convert lists to tuples, recursively."""
    return tuple(_to_tuples(item) for item in value) if isinstance(value, list) else value


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
