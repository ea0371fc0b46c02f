"""Metrics of the models in memory, read from the repository whenever Prometheus scrapes."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mods_grpc.server.models.loader import REJECTION_STAGES
from mods_grpc.server.models.repository import Repository

EVICTION_REASONS = ("capacity", "idle")


class ModelCollector:
    """Collects versions in memory, live and dropped series, and loads.

    Args:
        repository: The models.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        info = GaugeMetricFamily("mods_model_info", "Versions in memory.", labels=("model", "version", "digest", "provider"))
        live = GaugeMetricFamily("mods_series_live", "Series held.", labels=("model",))
        waiting = GaugeMetricFamily("mods_series_waiting", "Series whose model is not served.", labels=("model",))
        evicted = CounterMetricFamily("mods_series_evicted", "Series dropped.", labels=("reason",))
        for entry in self._repository.entries():
            loaded = entry.loaded
            if loaded is not None:
                info.add_metric([entry.name, str(entry.version), entry.digest, loaded.session.provider], 1)
                if entry.state is entry.state.READY:
                    live.add_metric([entry.name], len(loaded.series))
        for name, count in sorted(self._repository.count_waiting().items()):
            waiting.add_metric([name], count)
        evictions = self._repository.count_evictions()
        for reason in EVICTION_REASONS:
            evicted.add_metric([reason], evictions[reason])
        loads = CounterMetricFamily("mods_model_load", "Loads of versions.", labels=("outcome", "reason"))
        for outcome, reason in (("ready", ""), *(("failed", stage) for stage in sorted({*REJECTION_STAGES, "other"}))):
            loads.add_metric([outcome, reason], self._repository.load_counts[outcome, reason])
        yield from (info, live, waiting, evicted, loads)
