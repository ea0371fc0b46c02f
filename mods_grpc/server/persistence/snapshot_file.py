r"""The state of all series on disk: written whole and atomically, read only if every byte is as it was written.

```
mods-grpc state 3\n
SHA-256 of the rest, in hexadecimal\n
npz: "header" (JSON as bytes), and for part number i each array of its SeriesSnapshot as "i.<field>"
```
"""

import base64
import dataclasses
import hashlib
import json
import os
from collections import deque
from collections.abc import Mapping
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from mods_grpc.server.models.loader import LoadedModel
from mods_grpc.server.series.replay_cache import CachedReplies, CachedReply
from mods_grpc.server.series.snapshot import SeriesSnapshot

MAGIC = b"mods-grpc state 3\n"
DIGEST_BYTES = 65  # in hexadecimal, with the end of the line
MAX_FILE_BYTES = 16 << 30
_ARRAYS = tuple(item.name for item in dataclasses.fields(SeriesSnapshot) if item.name not in ("sensors", "names", "answers"))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SavedModel:
    """Series of one model, all or a part. `grid` tells which versions can go on with them: LoadedModel.grid."""

    name: str
    version: int
    digest: str
    grid: Any
    series: SeriesSnapshot


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SavedState:
    """What a file holds, parts of one model after another. `complete` is False for one written while streams went on."""

    models: tuple[SavedModel, ...]
    complete: bool


def label_snapshot(model: LoadedModel, series: SeriesSnapshot) -> SavedModel:
    """Name the model that a snapshot belongs to."""
    manifest = model.manifest
    return SavedModel(name=manifest.name, version=manifest.version, digest=model.digest, grid=model.grid, series=series)


def write_state(path: Path, state: SavedState) -> None:
    """Write the file in place of what was there.

    Raises:
        OSError: It can't be written; what was there before stays.
    """
    arrays: dict[str, Any] = {}
    models = []
    for number, model in enumerate(state.models):
        series = model.series
        arrays |= {f"{number}.{name}": getattr(series, name) for name in _ARRAYS}
        models.append(
            {
                "name": model.name,
                "version": model.version,
                "digest": model.digest,
                "grid": model.grid,
                "sensors": series.sensors,
                "names": series.names,
                "answers": {sensor: [list(map(_to_base64, pair)) for pair in kept] for sensor, kept in series.answers.items()},
            }
        )
    header = json.dumps({"complete": state.complete, "models": models}).encode()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("w+b") as file:  # piece by piece: nothing is held twice, nor the interpreter for long
            file.write(MAGIC + bytes(DIGEST_BYTES))
            np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)
            digest = _digest(file)
            file.seek(len(MAGIC))
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def read_state(path: Path) -> SavedState:
    """Read the file.

    Raises:
        OSError: It can't be read.
        ValueError: It is not what `write_state` wrote.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError("it is too large")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin as a state file of this version does")
        if file.read(DIGEST_BYTES) != _digest(file):
            raise ValueError("its digest differs, so it is damaged")
        file.seek(len(MAGIC) + DIGEST_BYTES)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                header = json.loads(arrays["header"].tobytes())
                models = tuple(_read_model(model, number, arrays) for number, model in enumerate(header["models"]))
                return SavedState(models=models, complete=bool(header["complete"]))
        except (KeyError, TypeError, AttributeError, OSError) as error:
            raise ValueError("it was written by another version") from error


def _digest(file: BufferedReader | BufferedRandom) -> bytes:
    """Return the digest of what follows it in a file."""
    file.seek(len(MAGIC) + DIGEST_BYTES)
    return hashlib.file_digest(file, "sha256").hexdigest().encode() + b"\n"


def _read_model(model: Mapping[str, Any], number: int, arrays: Mapping[str, Any]) -> SavedModel:
    answers: dict[str, CachedReplies] = {
        sensor: deque(CachedReply(*map(base64.b64decode, pair)) for pair in kept) for sensor, kept in model["answers"].items()
    }
    series = SeriesSnapshot(
        sensors=tuple(model["sensors"]),
        names=tuple(model["names"]),
        answers=answers,
        **{name: arrays[f"{number}.{name}"] for name in _ARRAYS},
    )
    return SavedModel(
        name=model["name"], version=model["version"], digest=model["digest"], grid=_to_tuples(model["grid"]), series=series
    )


def _to_tuples(value: Any) -> Any:
    """Make tuples of what JSON made lists."""
    return tuple(_to_tuples(item) for item in value) if isinstance(value, list) else value


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
