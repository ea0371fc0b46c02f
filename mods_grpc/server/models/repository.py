"""The models of the repository: versions in memory, looked up by name and number, swapped while calls are in progress.

The newest version that loaded is READY and answers requests that name no version. A version whose rows hold panes would misread
rows of whole windows, and the other way round: so of each kind the newest is READY. Older ones are RETIRED: up to a limit they
stay in memory for streams that pinned them, and for a rollback when the newest folder is deleted. A version that can't be loaded
is FAILED with its reason, and is tried again only after its files have changed.

Methods that change something belong to the event loop's thread; the others may be called from any thread.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from mods_grpc.artifact import list_versions
from mods_grpc.detection import SeriesTable
from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.server.models.loader import Loader, LoadResult
from mods_grpc.server.models.unserved import ModelSeries, UnservedSeries
from mods_grpc.server.models.versions import (
    Fingerprint,
    VersionDescription,
    VersionEntry,
    VersionKey,
    VersionState,
    find_version,
    fingerprint_files,
    fingerprint_folder,
    make_not_serving_error,
    require_rows,
)
from mods_grpc.server.series.slots import SeriesSlots
from mods_grpc.server.series.snapshot import hand_over

logger = logging.getLogger(__name__)


class Repository:
    """The models that a server serves.

    Args:
        loader: Loads versions from the repository's folder.
        versions_kept: Versions of a model kept in memory, the serving one included; besides these, the one that serves rows of
            the other kind.

    Attributes:
        generation: Increases whenever a model's serving version changes, or series move; see `subscribe`.
        load_counts: Number of loads so far, by outcome ("ready" or "failed") and the stage that rejected the version.
        unserved: Series whose model is not served.
    """

    def __init__(self, loader: Loader, *, versions_kept: int = 2) -> None:
        self._loader = loader
        self._versions_kept = versions_kept
        self._entries: dict[VersionKey, VersionEntry] = {}
        self._serving_cache: dict[
            tuple[str, int | None, bool | None], LoadedModel
        ] = {}  # results of `serving` until something changes
        self._last_scan: Mapping[VersionKey, Fingerprint] = {}
        self.generation = 0
        self._listeners: list[Callable[[], None]] = []
        self.load_counts: Counter[tuple[str, str]] = Counter()
        self.unserved = UnservedSeries(loader.max_series * versions_kept)
        self._dropped_evictions: Counter[str] = Counter()  # of versions that are no longer in memory

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call a function whenever `generation` has increased."""
        self._listeners.append(listener)

    def _advance(self) -> None:
        self.generation += 1
        for listener in self._listeners:
            listener()

    def stat(self) -> Mapping[VersionKey, Fingerprint]:
        """Return the fingerprint of every version in the folder. A change of the trusted keys changes all of them.

        Raises:
            ArtifactError: The folder can't be read.
        """
        keys = fingerprint_files(self._loader.trusted_keys.paths) if self._loader.trusted_keys else ()
        folder = self._loader.folder
        return {key: fingerprint_folder(folder / key[0] / str(key[1])) + keys for key in list_versions(folder)}

    def scan(self) -> None:
        """Scan the folder and enter all its versions as LOADING.

        Raises:
            ArtifactError: The folder can't be read.
        """
        self._last_scan = self.stat()
        self.apply_scan(self._last_scan)

    def apply_scan(self, scan: Mapping[VersionKey, Fingerprint]) -> None:
        """Enter new versions and withdraw deleted ones, according to a result of `stat`.

        A change applies once two results in a row agree on it, because a folder may still be written to.
        """
        for key, fingerprint in scan.items():
            entry = self._entries.get(key)
            if self._last_scan.get(key) != fingerprint:
                continue
            if entry is None or (entry.state is VersionState.FAILED and entry.fingerprint != fingerprint):
                self._entries = {**self._entries, key: VersionEntry(name=key[0], version=key[1], fingerprint=fingerprint)}
        for key in [key for key in self._entries if key not in scan and key not in self._last_scan]:
            previous = self._serving_models(key[0])
            entry = self._entries[key]
            if entry.loaded is previous.get(bool(entry.takes_panes)) and self._waits_for_replacement(entry):
                continue  # removed by a later scan
            self._entries = {other_key: other for other_key, other in self._entries.items() if other_key != key}
            logger.info("model_withdrawn", extra={"model": key[0], "version": key[1], "state": entry.state.name})
            self._promote(key[0], previous)
        self._last_scan, self._serving_cache = scan, {}
        self.expire_unserved()

    def retry_failed(self) -> None:
        """Enter the versions that could not be loaded as LOADING again."""
        for entry in self.entries():
            if entry.state is VersionState.FAILED:
                entry.state, entry.failure = VersionState.LOADING, ""

    def expire_unserved(self) -> None:
        """Drop series that no stream has used for too long though their model does not serve, and those above the limit."""
        for entry in self.entries():
            loaded = entry.loaded
            if entry.state is VersionState.RETIRED and loaded is not None and not loaded.series.lock.locked:
                loaded.series.evict_idle()
        self.unserved.expire({entry.name for entry in self.entries() if entry.state is VersionState.LOADING})

    def model_series(self) -> list[ModelSeries]:
        """Return all series by model: of the serving versions, of those that streams have pinned, and those that wait."""
        series = []
        for entry in self.entries():
            if entry.loaded is not None and (entry.state is VersionState.READY or len(entry.loaded.series)):
                series.append(ModelSeries.of(entry.loaded, pinned=entry.state is not VersionState.READY))
        return [*series, *self.unserved]

    def create_series(self, table: SeriesTable) -> SeriesSlots:
        """Create slots for series, with their state in an empty table."""
        return self._loader.create_series(table)

    def report_unserved(self) -> None:
        """Log which series wait, and why no version that is served can continue them."""
        for waiting in self.unserved:
            self._report(waiting)

    def _report(self, waiting: ModelSeries) -> None:
        is_served = bool(self._serving_models(waiting.name))
        reason = (
            "the features, what rows hold of them, or the time grid of the model have changed"
            if is_served
            else "the model is not served"
        )
        if waiting.pinned:
            reason = "streams have pinned a version that is not in memory"
        fields = {"model": waiting.name, "version": waiting.version, "series": len(waiting.series), "reason": reason}
        logger.warning("state_waiting", extra=fields)

    def _waits_for_replacement(self, entry: VersionEntry) -> bool:
        """Return whether a deleted version must serve until another one, which can replace it, is loaded."""
        others = [other for other in self.entries() if other.name == entry.name and other is not entry]
        others = [other for other in others if other.takes_panes in (entry.takes_panes, None)]
        if entry.loaded is None or any(other.loaded for other in others):
            return False
        loadable = [other for other in others if other.state in (VersionState.LOADING, VersionState.RETIRED)]
        for other in loadable[:1]:
            other.state = VersionState.LOADING
        return bool(loadable)

    def next_pending(self) -> VersionEntry | None:
        """Return the version to load next, the newest of the first model that has one; None if there is none."""
        return next((entry for entry in self.entries() if entry.state is VersionState.LOADING), None)

    def load(self, entry: VersionEntry) -> LoadResult:
        """Load a version without changing anything here. May take seconds."""
        return self._loader.load(entry.name, entry.version)

    def install(self, entry: VersionEntry, result: LoadResult) -> None:
        """Apply the result of `load`, unless the version was withdrawn meanwhile."""
        if self._entries.get((entry.name, entry.version)) is not entry:
            return
        previous = self._serving_models(entry.name)
        entry.description = VersionDescription.of(result.manifest) if result.manifest else None
        entry.digest = result.digest
        entry.loaded, entry.failure = result.loaded, result.failure
        entry.state = VersionState.RETIRED if result.loaded else VersionState.FAILED
        self.load_counts["failed" if result.failure else "ready", result.rejected_by] += 1
        self._promote(entry.name, previous)
        if entry.loaded is not None and self.unserved.hand_to(entry.loaded, pinned=True):
            self._advance()
        self._serving_cache = {}

    def load_all(self) -> None:
        """Load every version that is LOADING. Those that can't be loaded become FAILED with the reason."""
        while (entry := self.next_pending()) is not None:
            self.install(entry, self.load(entry))

    def count_evictions(self) -> Counter[str]:
        """Return the number of series dropped so far, by reason."""
        total = self._dropped_evictions + self.unserved.count_evictions()
        for entry in self.entries():
            if entry.loaded:
                total.update(entry.loaded.series.evicted)
        return total

    def count_waiting(self) -> Counter[str]:
        """Count the series whose model is not served, by model."""
        return self.unserved.count_series()

    def cancel_load(self) -> None:
        """Cancel a load in progress."""
        self._loader.cancel()

    def _serving_models(self, name: str) -> dict[bool, LoadedModel]:
        """Return the versions of a model that serve, by whether they take panes."""
        ready = [entry for entry in self.entries() if entry.name == name and entry.state is VersionState.READY]
        return {bool(entry.takes_panes): entry.loaded for entry in ready if entry.loaded}

    def _promote(self, name: str, previous: Mapping[bool, LoadedModel]) -> None:
        """Make the newest loaded version serve, hand the series that it can continue over to it, and drop the oldest versions.

        The newest of those that take panes, and of those that take whole windows. `previous` are those that served before.
        """
        versions = [entry for entry in self.entries() if entry.name == name]
        loaded = [entry for entry in versions if entry.loaded]
        serving: dict[bool, VersionEntry] = {}
        for rank, entry in enumerate(loaded):
            is_newest = serving.setdefault(bool(entry.takes_panes), entry) is entry
            entry.state = VersionState.READY if is_newest else VersionState.RETIRED
            if rank >= self._versions_kept and not is_newest and entry.loaded:
                self._dropped_evictions.update(entry.loaded.series.evicted)
                entry.loaded = None
        held = len(loaded[: self._versions_kept])
        for entry in versions:
            if entry.loaded or entry.state is VersionState.FAILED:
                continue
            newer = not loaded or entry.version > loaded[0].version
            # clients that know no panes need a version without, however old it is
            is_needed = True in serving and False not in serving and not entry.takes_panes
            is_wanted = newer or is_needed or held < self._versions_kept
            entry.state = VersionState.LOADING if is_wanted else VersionState.RETIRED
            held += 0 if newer else 1
        changed = [self._replace(name, previous.get(panes), serving.get(panes)) for panes in (False, True)]
        if any(changed):
            self._advance()

    def _replace(self, name: str, previous: LoadedModel | None, entry: VersionEntry | None) -> bool:
        """Hand the series of the version that served over to the one that serves now; return whether that is another one."""
        current = entry.loaded if entry else None
        if current is previous:
            return False
        if previous is not None and current is not None and current.can_continue(previous):
            with previous.series.lock.thread_lock, current.series.lock.thread_lock:
                hand_over(previous.series, current.series, same_model=current.digest == previous.digest)
        elif previous is not None and (waiting := self.unserved.keep(previous)) is not None:
            self._report(waiting)
        if current is not None and entry is not None:
            self.unserved.hand_to(current)
            fields = {"model": name, "version": entry.version, "digest": entry.digest[:12]}
            logger.info("model_serving", extra=fields)
        return True

    def entries(self) -> Iterator[VersionEntry]:
        """Yield all versions, sorted by name, newest first."""
        entries = self._entries
        yield from (entries[key] for key in sorted(entries, key=lambda key: (key[0], -key[1])))

    @property
    def ready(self) -> bool:
        """Whether no version is LOADING and at least one is READY."""
        states = {entry.state for entry in self._entries.values()}
        return VersionState.LOADING not in states and VersionState.READY in states

    def find(self, name: str, version: int | None, panes: bool | None = None) -> VersionEntry:
        """Find a version, as `find_version` does."""
        return find_version(self._entries, name, version, panes)

    def serving(self, name: str, version: int | None, panes: bool | None = None) -> LoadedModel:
        """Return a version that is in memory; arguments as for `find`.

        Raises:
            InvalidInputError, ModelNotFoundError: As `find`; or PANES_MISMATCH, as `require_rows`.
            ModelUnavailableError: It is still loading.
            ModelUnusableError: It failed to load, or was replaced and is no longer in memory.
        """
        cache = self._serving_cache  # bound once: another thread may fill a cache that the loop has replaced meanwhile
        key = name, version, panes
        if key not in cache:
            entry = self.find(name, version, panes)
            if panes is not None:
                require_rows(entry, panes, named=version is not None)
            if entry.loaded is None:
                raise make_not_serving_error(entry)
            cache[key] = entry.loaded
        return cache[key]
