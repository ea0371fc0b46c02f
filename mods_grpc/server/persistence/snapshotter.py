"""Snapshots of the series: restored at the start, written periodically and on shutdown."""

import asyncio
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mods_grpc.errors import ModsError
from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.persistence.snapshot_file import SavedModel, SavedState, label_snapshot, read_state, write_state
from mods_grpc.server.series.snapshot import capture, restore

CHUNK_SERIES = 2000  # series copied without yielding to the event loop, in a few ms; the series of a sensor stay together

logger = logging.getLogger(__name__)


class Snapshotter:
    """Reads and writes the state file of a repository.

    Args:
        repository: The models.
        path: The state file.
        interval_seconds: Write interval; 0 writes on shutdown only.
    """

    def __init__(self, repository: Repository, path: Path, interval_seconds: float) -> None:
        self._repository = repository
        self._path = path
        self._interval_seconds = interval_seconds
        self._thread = ThreadPoolExecutor(1, "snapshotter")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Restore the state from the file, then start the periodic writes."""
        self._restore()
        if self._interval_seconds:
            self._task = asyncio.ensure_future(self._write_periodically())

    async def stop(self) -> None:
        """Write the final state. The series must not change any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self.write(complete=True)
        self._thread.shutdown()

    async def write(self, *, complete: bool) -> None:
        """Write the current state. An I/O error is logged."""
        state = SavedState(models=tuple(await self._take_snapshots()), complete=complete)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, write_state, self._path, state)
        except OSError as error:
            logger.error("state_not_written", extra={"reason": error.strerror or str(error)})

    async def _take_snapshots(self) -> list[SavedModel]:
        """Copy all series, some sensors at a time so that calls are served in between.

        The series and the cached replies of one sensor are consistent with each other.
        """
        snapshots: list[SavedModel] = []
        generation = None
        while generation != self._repository.generation:  # repeat if series moved to another version meanwhile
            generation, snapshots = self._repository.generation, []
            for model in self._serving_models():
                for sensors in model.series.sensor_groups(CHUNK_SERIES):
                    await model.series.lock.wait_idle()
                    snapshots.append(label_snapshot(model, capture(model.series, sensors)))
                    await asyncio.sleep(0)
        return snapshots

    def _serving_models(self) -> list[LoadedModel]:
        return [entry.loaded for entry in self._repository.entries() if entry.state is entry.state.READY and entry.loaded]

    async def _write_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self.write(complete=False)
            except Exception:  # the next write may succeed
                logger.exception("state_write_crashed")

    def _restore(self) -> None:
        try:
            state = read_state(self._path)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            logger.error("state_rejected", extra={"reason": str(error)})
            return
        for name, group in itertools.groupby(state.models, key=lambda chunk: chunk.name):
            chunks = tuple(group)
            try:
                model = self._repository.serving(name, None)
            except ModsError:
                logger.warning("state_skipped", extra={"model": name, "reason": "the model is not served"})
                continue
            if model.grid != chunks[0].grid:
                reason = "the features or the time grid of the model have changed"
                logger.warning("state_skipped", extra={"model": name, "reason": reason})
                continue
            count = sum(restore(model.series, chunk.series, same_model=model.digest == chunk.digest) for chunk in chunks)
            if not state.complete:
                model.series.mark_stale({sensor for chunk in chunks for sensor in chunk.series.sensors})
            logger.info("state_restored", extra={"model": name, "series": count, "complete": state.complete})
