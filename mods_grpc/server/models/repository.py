"""The models of the repository: versions beside each other, found by name and number, swapped while calls go on.

The newest version that loaded is READY and answers where none is named. The ones before it are RETIRED: they stay loaded,
up to a number, for streams that pinned them and to go back to when the newest folder is deleted. A version that can't be
loaded is FAILED with its reason, and is tried again only when its files change.

All methods that change something belong to one thread, that of the event loop; the others may be called from any.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mods_grpc.artifact import TrustedKeys, list_versions
from mods_grpc.detection.engine.chunking import Share, alone
from mods_grpc.server.models.canary import Canary
from mods_grpc.server.models.fingerprint import Fingerprint, fingerprint_of, fingerprint_of_files
from mods_grpc.server.models.loader import LoadedModel, Loader, Meter, Prepared
from mods_grpc.server.models.versions import Entry, Key, State, find_version, why_not_serving
from mods_grpc.server.scheduling.micro_batcher import RoundHook
from mods_grpc.server.security.file_watcher import WatchedFiles
from mods_grpc.server.series.handover import succeed

log = logging.getLogger(__name__)


class Repository:
    """The models a server serves.

    Args:
        folder: The model repository. provider: execution provider to load on.
        max_series: Series held per model. max_series_per_sensor: per sensor of a model.
        state_idle_seconds: How long state of a series that sends nothing is kept.
        versions_kept: Versions of a model kept in memory, the serving one included.
        canary: Tries a version in a child process first; None to do without.
        meter_of: Makes what is told of every run of a model. run_seconds: how long one may take.
        trusted: Keys of which one must have signed a version; None to do without.
        share: Works on the parts of large batches. at_end_of_round: of gatherers.

    Attributes:
        generation: Grows whenever another version of some model begins to serve, or one is withdrawn.
        loads: Loads so far, by outcome and what refused the version.
    """

    def __init__(
        self,
        folder: Path,
        *,
        provider: str,
        max_series: int,
        max_series_per_sensor: int,
        state_idle_seconds: float,
        versions_kept: int = 2,
        canary: Canary | None = None,
        meter_of: Callable[[str], Meter] = lambda _: _unmetered,
        run_seconds: float = 30.0,
        trusted: WatchedFiles[TrustedKeys] | None = None,
        share: Share = alone,
        at_end_of_round: RoundHook | None = None,
    ) -> None:
        self._folder = folder
        self._kept = versions_kept
        self._canary = canary
        self._trusted = trusted
        self._loader = Loader(
            folder=folder,
            provider=provider,
            max_series=max_series,
            max_series_per_sensor=max_series_per_sensor,
            state_idle_seconds=state_idle_seconds,
            canary=canary,
            meter_of=meter_of,
            run_seconds=run_seconds,
            trusted=trusted.content if trusted else None,
            share=share,
            at_end_of_round=at_end_of_round,
        )
        self._entries: dict[Key, Entry] = {}
        self._served: dict[tuple[str, int | None], LoadedModel] = {}  # what `serving` found, until something changes
        self._seen: Mapping[Key, Fingerprint] = {}
        self.generation = 0
        self.loads: Counter[tuple[str, str]] = Counter()
        self._evicted: Counter[str] = Counter()

    def look(self) -> Mapping[Key, Fingerprint]:
        """Look into the folder; changes nothing. With other trusted keys every version looks changed.

        Raises:
            ArtifactError: The folder can't be read.
        """
        keys = fingerprint_of_files(self._trusted.paths) if self._trusted else ()
        return {key: fingerprint_of(self._folder / key[0] / str(key[1])) + keys for key in list_versions(self._folder)}

    def scan(self) -> None:
        """Take note of the versions in the folder, as LOADING.

        Raises:
            ArtifactError: The folder can't be read.
        """
        self._seen = self.look()
        self.take_note(self._seen)

    def take_note(self, seen: Mapping[Key, Fingerprint]) -> None:
        """Take note of what `look` saw, as far as it saw the same the time before: a folder may still be written to."""
        for key, fingerprint in seen.items():
            entry = self._entries.get(key)
            if self._seen.get(key) != fingerprint:
                continue
            if entry is None or (entry.state is State.FAILED and entry.fingerprint != fingerprint):
                self._entries = {**self._entries, key: Entry(name=key[0], version=key[1], fingerprint=fingerprint)}
        for key in [key for key in self._entries if key not in seen and key not in self._seen]:
            before = self._current(key[0])
            entry = self._entries[key]
            if entry.loaded is before and self._awaits_another(entry):
                continue  # next time
            self._entries = {other: kept for other, kept in self._entries.items() if other != key}
            log.info("model_withdrawn model=%s version=%d state=%s", *key, entry.state.name)
            self._settle(key[0], before)
        self._seen, self._served = seen, {}

    def _awaits_another(self, entry: Entry) -> bool:
        """Tell whether a version that goes must wait until another one that can serve in its place is loaded."""
        others = [other for other in self.entries() if other.name == entry.name and other is not entry]
        if entry.loaded is None or any(other.loaded for other in others):
            return False
        waiting = [other for other in others if other.state in (State.LOADING, State.RETIRED)]
        for other in waiting[:1]:
            other.state = State.LOADING
        return bool(waiting)

    def next_waiting(self) -> Entry | None:
        """Return a version to load next: the newest of the first model that has one."""
        return next((entry for entry in self.entries() if entry.state is State.LOADING), None)

    def prepare(self, entry: Entry) -> Prepared:
        """Load a version; changes nothing, and takes its time."""
        return self._loader.prepare(entry.name, entry.version)

    def install(self, entry: Entry, prepared: Prepared) -> None:
        """Take over what `prepare` made, unless the version was withdrawn meanwhile."""
        if self._entries.get((entry.name, entry.version)) is not entry:
            return
        before = self._current(entry.name)
        entry.manifest, entry.digest = prepared.manifest, prepared.digest
        entry.loaded, entry.failure = prepared.loaded, prepared.failure
        entry.state = State.RETIRED if prepared.loaded else State.FAILED
        self.loads["failed" if prepared.failure else "ready", prepared.refused_by] += 1
        self._settle(entry.name, before)
        self._served = {}

    def load_all(self) -> None:
        """Load every version that is LOADING; what can't be loaded becomes FAILED with its reason."""
        while (entry := self.next_waiting()) is not None:
            self.install(entry, self.prepare(entry))

    def evicted(self) -> Counter[str]:
        """Count the series that were dropped, by reason."""
        total = Counter(self._evicted)
        for entry in self.entries():
            if entry.loaded:
                total.update(entry.loaded.states.evicted)
        return total

    def stop(self) -> None:
        """Break off a load that is under way."""
        if self._canary:
            self._canary.stop()

    def _current(self, name: str) -> LoadedModel | None:
        return next((entry.loaded for entry in self.entries() if entry.name == name and entry.state is State.READY), None)

    def _settle(self, name: str, before: LoadedModel | None) -> None:
        """Let the newest loaded version of a model serve, with the series of the one before; let go of the oldest."""
        versions = [entry for entry in self.entries() if entry.name == name]
        loaded = [entry for entry in versions if entry.loaded]
        for rank, entry in enumerate(loaded):
            entry.state = State.RETIRED if rank else State.READY
            if rank >= self._kept and entry.loaded:
                self._evicted.update(entry.loaded.states.evicted)
                entry.loaded = None
        held = len(loaded[: self._kept])
        for entry in versions:
            if entry.loaded or entry.state is State.FAILED:
                continue
            newer = not loaded or entry.version > loaded[0].version
            entry.state = State.LOADING if newer or held < self._kept else State.RETIRED
            held += 0 if newer else 1
        now = loaded[0].loaded if loaded else None
        if now is before:
            return
        if now is not None:
            if before is not None and now.follows(before):
                with before.states.turn.thread_lock:
                    succeed(before.states, now.states, same_model=now.digest == before.digest)
            log.info("model_serving model=%s version=%d digest=%s", name, loaded[0].version, loaded[0].digest[:12])
        if before is not None and not before.states.pins:
            before.states.clear()
        self.generation += 1

    def entries(self) -> Iterator[Entry]:
        """Yield all versions, by name and then newest first."""
        entries = self._entries
        yield from (entries[key] for key in sorted(entries, key=lambda key: (key[0], -key[1])))

    @property
    def ready(self) -> bool:
        """Whether nothing is loading any more and at least one model serves."""
        states = {entry.state for entry in self._entries.values()}
        return State.LOADING not in states and State.READY in states

    def find(self, name: str, version: int | None) -> Entry:
        """Find a version, as `find_version` does."""
        return find_version(self._entries, name, version)

    def serving(self, name: str, version: int | None) -> LoadedModel:
        """Find a version that serves.

        Raises:
            InvalidInputError, ModelNotFoundError: As `find`.
            ModelUnavailableError: It is still loading.
            ModelUnusableError: It failed to load, or was replaced and is no longer in memory.
        """
        served = self._served  # on another thread than the loop's, what is found goes where it may be out of date already
        if (name, version) not in served:
            entry = self.find(name, version)
            if entry.loaded is None:
                raise why_not_serving(entry)
            served[name, version] = entry.loaded
        return served[name, version]


def _unmetered(windows: int, seconds: float) -> None:
    """Tell nobody of a run."""
