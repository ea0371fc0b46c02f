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
from collections import deque
from collections.abc import Mapping
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from mods_grpc.atomic_file import replacing
from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.server.series.replay_cache import CachedReplies, CachedReply
from mods_grpc.server.series.snapshot import SeriesSnapshot

MAGIC = b"mods-grpc state 3\n"
DIGEST_BYTES = 65  # hexadecimal digits and the line end
MAX_FILE_BYTES = 16 << 30
_ARRAYS = tuple(item.name for item in dataclasses.fields(SeriesSnapshot) if item.name not in ("sensors", "names", "answers"))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SavedModel:
    """All or some series of one model version. Versions with the same `grid` can continue them; see `LoadedModel.grid`."""

    name: str
    version: int
    digest: str
    grid: Any
    series: SeriesSnapshot


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SavedState:
    """Content of a state file. Chunks of one model are adjacent. `complete` is False if streams were open when it was written."""

    models: tuple[SavedModel, ...]
    complete: bool


def label_snapshot(model: LoadedModel, series: SeriesSnapshot) -> SavedModel:
    """Label a snapshot with the model version that it belongs to."""
    manifest = model.manifest
    return SavedModel(name=manifest.name, version=manifest.version, digest=model.digest, grid=model.grid, series=series)


def write_state(path: Path, state: SavedState) -> None:
    """Replace the state file.

    Raises:
        OSError: It can't be written; the old file is unchanged.
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
                "answers": {
                    sensor: [list(map(_to_base64, pair)) for pair in replies] for sensor, replies in series.answers.items()
                },
            }
        )
    header = json.dumps({"complete": state.complete, "models": models}).encode()
    with replacing(path) as file:  # array by array: no second copy in memory, and the GIL is never held for long
        file.write(MAGIC + bytes(DIGEST_BYTES))
        np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)
        digest = _digest(file)
        file.seek(len(MAGIC))
        file.write(digest)


def read_state(path: Path) -> SavedState:
    """Read a state file.

    Raises:
        OSError: It can't be read.
        ValueError: It is damaged, too large or not a state file of this version.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError("it is too large")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin like a state file of this version")
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


def _digest(file: BufferedRandom | BufferedReader) -> bytes:
    """Return the digest line of the file: the SHA-256 of everything after that line."""
    file.seek(len(MAGIC) + DIGEST_BYTES)
    return hashlib.file_digest(file, "sha256").hexdigest().encode() + b"\n"


def _read_model(model: Mapping[str, Any], number: int, arrays: Mapping[str, Any]) -> SavedModel:
    answers: dict[str, CachedReplies] = {
        sensor: deque(CachedReply(*map(base64.b64decode, pair)) for pair in replies)
        for sensor, replies in model["answers"].items()
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
    """Convert lists to tuples, recursively."""
    return tuple(_to_tuples(item) for item in value) if isinstance(value, list) else value


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
