r"""The state file: all series of all models on disk, replaced atomically and verified by a digest when read.

```
mods-grpc state 3\n
SHA-256 of the rest, in hexadecimal\n
npz: "header" (JSON as bytes), and for chunk number i each array of its SeriesSnapshot as "i.<field>" and its cached replies as
     "i.reply_bytes" and "i.reply_sizes"
```

All of it is made and written piece by piece: no copy of the state in memory, and no call of C that holds the GIL for long.
"""

import base64
import dataclasses
import hashlib
import json
import stat
import zipfile
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mods_grpc.atomic_file import replacing
from mods_grpc.server.models.unserved import ModelSeries
from mods_grpc.server.persistence.reply_arrays import join_replies, measure_replies, split_replies
from mods_grpc.server.series.replay_cache import CachedReplies, CachedReply
from mods_grpc.server.series.snapshot import SeriesSnapshot, capture, no_envelopes, no_quantiles

MAGIC = b"mods-grpc state 3\n"
DIGEST_BYTES = 65  # hexadecimal digits and the line end
MAX_FILE_BYTES = 16 << 30
_ENVELOPES, _QUANTILES = {"envelope", "blocks"}, {"quantiles", "quantile_rows"}
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
    models = sorted(state.models, key=lambda model: model.pinned)
    with replacing(path) as file:
        file.write(MAGIC + bytes(DIGEST_BYTES))
        with zipfile.ZipFile(file, "w") as archive:
            header = _encode_header(state, models)
            _write_bytes(archive, "header", len(header), [header])
            for number, model in enumerate(models):
                _write_model(archive, number, model.series)
        digest = _digest(file)
        file.seek(len(MAGIC))
        file.write(digest)


def _encode_header(state: SavedState, models: Sequence[SavedModel]) -> bytes:
    complete = state.complete and not any(model.stale for model in models)  # for versions that don't read the others
    rest = json.dumps({"complete": complete, "drained": state.complete, "journal": state.journal})
    served, pinned = (b", ".join(_encode_model(model) for model in models if model.pinned is flag) for flag in (False, True))
    return b"".join((rest[:-1].encode(), b', "models": [', served, b'], "pinned": [', pinned, b"]}"))


def _encode_model(model: SavedModel) -> bytes:
    series = model.series
    fields = {
        "name": model.name,
        "version": model.version,
        "digest": model.digest,
        "grid": model.grid,
        "stale": model.stale,
        "sensors": series.sensors,
        "names": series.names,
        "replies": {sensor: len(replies) for sensor, replies in series.answers.items()},
        "answers": {},  # for versions that don't read the replies in arrays
    }
    return json.dumps(fields).encode()


def _write_model(archive: zipfile.ZipFile, number: int, series: SeriesSnapshot) -> None:
    for name in _ARRAYS:
        _write_array(archive, f"{number}.{name}", getattr(series, name))
    sizes = measure_replies(series.answers.values())
    _write_array(archive, f"{number}.reply_sizes", sizes)
    _write_bytes(archive, f"{number}.reply_bytes", int(sizes.sum(dtype=np.int64)), join_replies(series.answers.values()))


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    """Write an array. As bytes it needs no copy, and the GIL is free while they are written."""
    array = np.ascontiguousarray(array)
    _write_member(archive, name, npy.header_data_from_array_1_0(array), [array.reshape(-1).view(np.uint8).data])


def _write_bytes(archive: zipfile.ZipFile, name: str, size: int, pieces: Iterable[bytes]) -> None:
    """Write an array of `size` bytes, piece by piece."""
    _write_member(archive, name, {"descr": "|u1", "fortran_order": False, "shape": (size,)}, pieces)


def _write_member(archive: zipfile.ZipFile, name: str, header: dict[str, Any], pieces: Iterable[bytes | memoryview]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        npy.write_array_header_1_0(member, header)
        for piece in pieces:
            member.write(piece)


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
        except OSError:
            raise
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
    """Read a chunk. In files of earlier versions some columns are missing, and its cached replies are in the header."""
    if "replies" in chunk:
        counts = {sensor: int(count) for sensor, count in chunk["replies"].items()}
        answers = split_replies(counts, arrays[f"{number}.reply_sizes"], arrays[f"{number}.reply_bytes"])
    else:
        answers = {sensor: _decode_replies(replies) for sensor, replies in chunk["answers"].items()}
    columns = {name: arrays[f"{number}.{name}"] for name in _ARRAYS if f"{number}.{name}" in arrays}
    if not _ENVELOPES & columns.keys():
        columns |= no_envelopes(*columns["values"].shape[::2])
    if not _QUANTILES & columns.keys():
        columns |= no_quantiles(*columns["own"].shape)
    series = SeriesSnapshot(
        sensors=tuple(map(str, chunk["sensors"])),
        names=tuple(map(str, chunk["names"])),
        answers=answers,
        **columns,
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


def _decode_replies(replies: Sequence[Sequence[str]]) -> CachedReplies:
    """Decode the cached replies of a sensor in a file of an earlier version: pairs of base64."""
    return deque(CachedReply(*map(base64.b64decode, pair)) for pair in replies)
