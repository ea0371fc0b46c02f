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
from mods_grpc.server.models.fingerprint import Fingerprint, fingerprint_files, fingerprint_folder
from mods_grpc.server.models.loader import Instrument, LoadedModel, Loader, LoadResult
from mods_grpc.server.models.versions import VersionEntry, VersionKey, VersionState, find_version, not_serving_error
from mods_grpc.server.scheduling.micro_batcher import RoundHook
from mods_grpc.server.security.file_watcher import FileWatcher
from mods_grpc.server.series.handover import hand_over

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
        meter_of: Callable[[str], Instrument] = lambda _: _discard,
        run_seconds: float = 30.0,
        trusted: FileWatcher[TrustedKeys] | None = None,
        share: Share = alone,
        at_end_of_round: RoundHook | None = None,
    ) -> None:
        self._folder = folder
        self._versions_kept = versions_kept
        self._canary = canary
        self._trusted = trusted
        self._loader = Loader(
            folder=folder,
            provider=provider,
            max_series=max_series,
            max_series_per_sensor=max_series_per_sensor,
            state_idle_seconds=state_idle_seconds,
            canary=canary,
            instrument_for=meter_of,
            run_seconds=run_seconds,
            trusted=trusted.read if trusted else None,
            share=share,
            on_round_end=at_end_of_round,
        )
        self._entries: dict[VersionKey, VersionEntry] = {}
        self._serving_cache: dict[tuple[str, int | None], LoadedModel] = {}  # what `serving` found, until something changes
        self._last_scan: Mapping[VersionKey, Fingerprint] = {}
        self.generation = 0
        self.load_counts: Counter[tuple[str, str]] = Counter()
        self._dropped_evictions: Counter[str] = Counter()

    def stat(self) -> Mapping[VersionKey, Fingerprint]:
        """Look into the folder; changes nothing. With other trusted keys every version looks changed.

        Raises:
            ArtifactError: The folder can't be read.
        """
        keys = fingerprint_files(self._trusted.paths) if self._trusted else ()
        return {key: fingerprint_folder(self._folder / key[0] / str(key[1])) + keys for key in list_versions(self._folder)}

    def scan(self) -> None:
        """Take note of the versions in the folder, as LOADING.

        Raises:
            ArtifactError: The folder can't be read.
        """
        self._last_scan = self.stat()
        self.apply_scan(self._last_scan)

    def apply_scan(self, scan: Mapping[VersionKey, Fingerprint]) -> None:
        """Take note of what `look` saw, as far as it saw the same the time before: a folder may still be written to."""
        for key, fingerprint in scan.items():
            entry = self._entries.get(key)
            if self._last_scan.get(key) != fingerprint:
                continue
            if entry is None or (entry.state is VersionState.FAILED and entry.fingerprint != fingerprint):
                self._entries = {**self._entries, key: VersionEntry(name=key[0], version=key[1], fingerprint=fingerprint)}
        for key in [key for key in self._entries if key not in scan and key not in self._last_scan]:
            before = self._serving_model(key[0])
            entry = self._entries[key]
            if entry.loaded is before and self._waits_for_replacement(entry):
                continue  # next time
            self._entries = {other: kept for other, kept in self._entries.items() if other != key}
            log.info("model_withdrawn model=%s version=%d state=%s", *key, entry.state.name)
            self._promote(key[0], before)
        self._last_scan, self._serving_cache = scan, {}

    def _waits_for_replacement(self, entry: VersionEntry) -> bool:
        """Tell whether a version that goes must wait until another one that can serve in its place is loaded."""
        others = [other for other in self.entries() if other.name == entry.name and other is not entry]
        if entry.loaded is None or any(other.loaded for other in others):
            return False
        waiting = [other for other in others if other.state in (VersionState.LOADING, VersionState.RETIRED)]
        for other in waiting[:1]:
            other.state = VersionState.LOADING
        return bool(waiting)

    def next_pending(self) -> VersionEntry | None:
        """Return a version to load next: the newest of the first model that has one."""
        return next((entry for entry in self.entries() if entry.state is VersionState.LOADING), None)

    def load(self, entry: VersionEntry) -> LoadResult:
        """Load a version; changes nothing, and takes its time."""
        return self._loader.load(entry.name, entry.version)

    def install(self, entry: VersionEntry, result: LoadResult) -> None:
        """Take over what `prepare` made, unless the version was withdrawn meanwhile."""
        if self._entries.get((entry.name, entry.version)) is not entry:
            return
        previous = self._serving_model(entry.name)
        entry.manifest, entry.digest = result.manifest, result.digest
        entry.loaded, entry.failure = result.loaded, result.failure
        entry.state = VersionState.RETIRED if result.loaded else VersionState.FAILED
        self.load_counts["failed" if result.failure else "ready", result.rejected_by] += 1
        self._promote(entry.name, previous)
        self._serving_cache = {}

    def load_all(self) -> None:
        """Load every version that is LOADING; what can't be loaded becomes FAILED with its reason."""
        while (entry := self.next_pending()) is not None:
            self.install(entry, self.load(entry))

    def eviction_counts(self) -> Counter[str]:
        """Count the series that were dropped, by reason."""
        total = Counter(self._dropped_evictions)
        for entry in self.entries():
            if entry.loaded:
                total.update(entry.loaded.states.evicted)
        return total

    def cancel_load(self) -> None:
        """Break off a load that is under way."""
        if self._canary:
            self._canary.stop()

    def _serving_model(self, name: str) -> LoadedModel | None:
        return next((entry.loaded for entry in self.entries() if entry.name == name and entry.state is VersionState.READY), None)

    def _promote(self, name: str, previous: LoadedModel | None) -> None:
        """Let the newest loaded version of a model serve, with the series of the one before; let go of the oldest."""
        versions = [entry for entry in self.entries() if entry.name == name]
        loaded = [entry for entry in versions if entry.loaded]
        for rank, entry in enumerate(loaded):
            entry.state = VersionState.RETIRED if rank else VersionState.READY
            if rank >= self._versions_kept and entry.loaded:
                self._dropped_evictions.update(entry.loaded.states.evicted)
                entry.loaded = None
        held = len(loaded[: self._versions_kept])
        for entry in versions:
            if entry.loaded or entry.state is VersionState.FAILED:
                continue
            newer = not loaded or entry.version > loaded[0].version
            entry.state = VersionState.LOADING if newer or held < self._versions_kept else VersionState.RETIRED
            held += 0 if newer else 1
        now = loaded[0].loaded if loaded else None
        if now is previous:
            return
        if now is not None:
            if previous is not None and now.tracks_state(previous):
                with previous.states.lock.thread_lock:
                    hand_over(previous.states, now.states, same_model=now.digest == previous.digest)
            log.info("model_serving model=%s version=%d digest=%s", name, loaded[0].version, loaded[0].digest[:12])
        if previous is not None and not previous.states.pins:
            previous.states.clear()
        self.generation += 1

    def entries(self) -> Iterator[VersionEntry]:
        """Yield all versions, by name and then newest first."""
        entries = self._entries
        yield from (entries[key] for key in sorted(entries, key=lambda key: (key[0], -key[1])))

    @property
    def ready(self) -> bool:
        """Whether nothing is loading any more and at least one model serves."""
        states = {entry.state for entry in self._entries.values()}
        return VersionState.LOADING not in states and VersionState.READY in states

    def find(self, name: str, version: int | None) -> VersionEntry:
        """Find a version, as `find_version` does."""
        return find_version(self._entries, name, version)

    def serving(self, name: str, version: int | None) -> LoadedModel:
        """Find a version that serves.

        Raises:
            InvalidInputError, ModelNotFoundError: As `find`.
            ModelUnavailableError: It is still loading.
            ModelUnusableError: It failed to load, or was replaced and is no longer in memory.
        """
        served = self._serving_cache  # on another thread than the loop's, what is found goes where it may be out of date already
        if (name, version) not in served:
            entry = self.find(name, version)
            if entry.loaded is None:
                raise not_serving_error(entry)
            served[name, version] = entry.loaded
        return served[name, version]


def _discard(windows: int, seconds: float) -> None:
    """Tell nobody of a run."""
