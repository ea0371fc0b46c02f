"""Keeps the state of the series over a restart: restores it at the start, writes it at intervals and at the end."""

import asyncio
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mods_grpc.errors import ModsError
from mods_grpc.server.models.loader import LoadedModel
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.persistence.snapshot_file import SavedModel, SavedState, label_snapshot, read_state, write_state
from mods_grpc.server.series.snapshot import capture, restore

CHUNK_SERIES = 2000  # copied without a pause, which takes a few milliseconds; a sensor is always copied whole

log = logging.getLogger(__name__)


class Snapshotter:
    """Writes the state file of a repository.

    Args:
        repository: The models.
        path: The file.
        seconds: How often to write it; 0 for only at the end.
    """

    def __init__(self, repository: Repository, path: Path, interval_seconds: float) -> None:
        self._repository = repository
        self._path = path
        self._interval_seconds = interval_seconds
        self._thread = ThreadPoolExecutor(1, "keeper")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Restore what the file holds, then write it at intervals."""
        self._restore()
        if self._interval_seconds:
            self._task = asyncio.ensure_future(self._write_periodically())

    async def stop(self) -> None:
        """Write for the last time; nothing may change the series any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self.write(complete=True)
        self._thread.shutdown()

    async def write(self, *, complete: bool) -> None:
        """Write the state as it is now; a failure is logged."""
        state = SavedState(models=tuple(await self._take_snapshots()), complete=complete)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, write_state, self._path, state)
        except OSError as error:
            log.error("state_not_written reason=%r", error.strerror)

    async def _take_snapshots(self) -> list[SavedModel]:
        """Copy all series, those of a few sensors at a time, so that calls go on in between. A sensor's fit its answers."""
        found: list[SavedModel] = []
        generation = None
        while generation != self._repository.generation:  # series moved to another version meanwhile
            generation, found = self._repository.generation, []
            for model in self._serving_models():
                for sensors in model.states.sensor_groups(CHUNK_SERIES):
                    await model.states.lock.wait_idle()
                    found.append(label_snapshot(model, capture(model.states, sensors)))
                    await asyncio.sleep(0)
        return found

    def _serving_models(self) -> list[LoadedModel]:
        return [entry.loaded for entry in self._repository.entries() if entry.state is entry.state.READY and entry.loaded]

    async def _write_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self.write(complete=False)
            except Exception:  # the next one may succeed
                log.exception("state_broke")

    def _restore(self) -> None:
        try:
            state = read_state(self._path)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.error("state_refused reason=%r", str(error))
            return
        for name, found in itertools.groupby(state.models, key=lambda part: part.name):
            parts = tuple(found)
            try:
                model = self._repository.serving(name, None)
            except ModsError:
                log.warning("state_left_aside model=%s reason='it is not served'", name)
                continue
            if model.grid != parts[0].grid:
                log.warning("state_left_aside model=%s reason='it has other features now'", name)
                continue
            count = sum(restore(model.states, part.series, same_model=model.digest == part.digest) for part in parts)
            if not state.complete:
                model.states.mark_stale({sensor for part in parts for sensor in part.series.sensors})
            log.info("state_restored model=%s series=%d complete=%s", name, count, state.complete)
