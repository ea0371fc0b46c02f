"""Snapshots of the series: restored at the start, written periodically and on shutdown."""

import asyncio
import itertools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mods_grpc.exit_codes import describe_os_error
from mods_grpc.server.codec.replay import first_series_of
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.models.unserved import ModelSeries
from mods_grpc.server.persistence.claim import advise, claim_state_file, journal_path
from mods_grpc.server.persistence.journal import Changed, StateJournal
from mods_grpc.server.persistence.snapshot_file import SavedModel, SavedState, read_state, take_snapshot, write_state
from mods_grpc.server.series.snapshot import restore

CHUNK_SERIES = 2000  # series copied without yielding to the event loop, in a few ms; what belongs to a sensor stays together

logger = logging.getLogger(__name__)


class Snapshotter:
    """Reads and writes the state file of a repository.

    Args:
        repository: The models.
        path: The state file. If it is a symbolic link, the file that it leads to.
        interval_seconds: Write interval; 0 writes on shutdown only.
        on_write: Called after every write with whether it succeeded.

    Attributes:
        journal: What changes after the state was written.

    Raises:
        OSError: The file can't be used; see `claim_state_file`.
    """

    def __init__(
        self, repository: Repository, path: Path, interval_seconds: float, on_write: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._repository = repository
        self._path = Path(os.path.realpath(path))
        self._interval_seconds = interval_seconds
        self._on_write = on_write
        self._lock = claim_state_file(self._path)
        self.journal = StateJournal(journal_path(self._path))
        self._thread = ThreadPoolExecutor(1, "snapshotter")
        self._task: asyncio.Task[None] | None = None
        self._is_restored = False

    async def start(self) -> None:
        """Let the series in the file wait for their models, then start the periodic writes. To be called before models load.

        Raises:
            OSError: The journal can't be created.
        """
        for waiting in await asyncio.get_running_loop().run_in_executor(self._thread, self._read):
            self._repository.unserved.add(waiting)
        self._is_restored = True
        if self._interval_seconds:
            self._task = asyncio.ensure_future(self._write_periodically())

    async def stop(self) -> bool:
        """Write the final state, and return whether that succeeded. The series must not change any more.

        It may be called again after it was cancelled.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        written = True
        if self._is_restored:  # or else the file is as it was
            try:
                written = await self.write(complete=True)
                self.journal.close(remove=written)
            except Exception:  # the shutdown goes on
                logger.exception("state_write_crashed")
                written = False
        self._is_restored = False
        self._thread.shutdown(wait=False)
        self._lock.close()
        return written

    async def write(self, *, complete: bool) -> bool:
        """Write the current state, and return whether that succeeded. An I/O error is logged."""
        self._repository.expire_unserved()
        journal = self.journal.begin()
        state = SavedState(models=tuple(await self._take_snapshots()), complete=complete, journal=journal)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, write_state, self._path, state)
        except OSError as error:
            logger.error("state_not_written", extra={"reason": error.strerror or str(error), "hint": advise(self._path, error)})
            self._on_write(False)
            return False
        self.journal.compact(journal)
        self._on_write(True)
        return True

    async def _take_snapshots(self) -> list[SavedModel]:
        """Copy all series, some sensors at a time so that calls are served in between.

        The series and the cached replies of one sensor are consistent with each other.
        """
        snapshots: list[SavedModel] = []
        generation = None
        while generation != self._repository.generation:  # repeat if series moved to another version meanwhile
            generation, snapshots = self._repository.generation, []
            for model in self._repository.model_series():
                for sensors in model.series.sensor_groups(CHUNK_SERIES):
                    await model.series.lock.wait_idle()
                    snapshots.append(take_snapshot(model, sensors))
                    await asyncio.sleep(0)
        return snapshots

    async def _write_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self.write(complete=False)
            except Exception:  # the next write may succeed
                logger.exception("state_write_crashed")

    def _read(self) -> list[ModelSeries]:
        """Read the series from the file; none if there is no file. One that can't be used is moved aside.

        Raises:
            OSError: The file can't be read, or the journal can't be created.
        """
        state, waiting = SavedState(models=(), complete=False), list[ModelSeries]()
        changed: Changed | None = None
        try:
            state = read_state(self._path)
            changed = self._read_changes(state)
            waiting = self._collect(state, changed)
        except FileNotFoundError:
            pass
        except OSError as error:  # of the system, not of the file, which may be good
            raise OSError(f"the state file {self._path} can't be read: {describe_os_error(error)}") from error
        except ValueError as error:
            state, changed = SavedState(models=(), complete=False), None
            aside = self._path.with_name(f"{self._path.name}.rejected")
            logger.error("state_rejected", extra={"reason": str(error), "moved_to": str(aside)})
            self._path.replace(aside)
        self.journal.open(state.journal, changed if state.journal else None)
        return waiting

    def _read_changes(self, state: SavedState) -> Changed | None:
        """Return which sensors have changed since the state was copied; None where they are unknown."""
        try:
            return self.journal.read(state.journal)
        except FileNotFoundError:
            return set() if state.complete else None

    def _collect(self, state: SavedState, changed: Changed | None) -> list[ModelSeries]:
        """Collect the series of each model from its chunks.

        Raises:
            ValueError: The chunks of a model differ in shape.
        """
        collected = []
        for (name, version, digest, grid, pinned), group in itertools.groupby(state.models, _get_label):
            chunks = tuple(group)
            series = self._repository.create_series(chunks[0].series.table())
            for chunk in reversed(chunks):  # each puts its sensors in front, and the first ones are to come first
                if chunk.series.table().shape != series.table.shape:
                    raise ValueError(f"its series of {name} have windows or forecasts of different lengths")
                restore(series, chunk.series, same_model=True)
                owners = {*chunk.series.sensors, *chunk.series.answers}
                stale = owners if changed is None else {sensor for sensor in owners if (name, sensor) in changed}
                series.mark_stale(stale.union(chunk.stale))
            series.restore_last_replies(first_series_of)
            labels = {"name": name, "version": version, "digest": digest, "grid": grid}
            collected.append(ModelSeries(**labels, series=series, pinned=pinned))
        return collected


def _get_label(chunk: SavedModel) -> tuple[str, int, str, Any, bool]:
    return chunk.name, chunk.version, chunk.digest, chunk.grid, chunk.pinned
