"""What Prometheus reads. Never a label by series, sensor or peer: their number is not ours to bound.

What can happen is told from the start, as 0: a counter that begins with its first event has not increased as far as
Prometheus can see, so an alert on it would miss that event.
"""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from socketserver import TCPServer, ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import grpc
import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mods_grpc.detection import Outcome
from mods_grpc.errors import Reason
from mods_grpc.server.models.loader import REJECTION_STAGES
from mods_grpc.server.models.repository import Repository

LATENCY_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_SIZE_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384)
EVICTION_REASONS = ("capacity", "idle")
# as go-grpc-prometheus names them, for dashboards that know it
CODE_NAMES = {code: code.name.title().replace("_", "") for code in grpc.StatusCode}
CODE_NAMES |= {grpc.StatusCode.OK: "OK", grpc.StatusCode.CANCELLED: "Canceled"}
CALL_LABELS = ("grpc_type", "grpc_service", "grpc_method")


class Metrics:
    """The numbers of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self._started = Counter("grpc_server_started", "Calls that began.", CALL_LABELS, registry=own)
        self._handled = Counter("grpc_server_handled", "Calls that ended, by status.", (*CALL_LABELS, "grpc_code"), registry=own)
        self._handling = Histogram(
            "grpc_server_handling_seconds", "How long calls took.", CALL_LABELS, buckets=LATENCY_BUCKETS, registry=own
        )
        self._inference = Histogram(
            "mods_inference_duration_seconds", "One run of a model.", ("model",), buckets=LATENCY_BUCKETS, registry=own
        )
        self._sizes = Histogram("mods_batch_size", "Windows in one run of a model.", ("model",), buckets=BATCH_SIZE_BUCKETS, registry=own)
        self.queue_wait = Histogram("mods_queue_wait_seconds", "Wait for a thread.", buckets=LATENCY_BUCKETS, registry=own)
        self.streams_open = Gauge("mods_streams_open", "Open StreamDetect calls.", registry=own)
        self._observations = Counter("mods_observations", "Observations of streams, by outcome.", ("outcome",), registry=own)
        self._anomalies = Counter("mods_anomalies", "Anomalous observations of streams.", ("model",), registry=own)
        self._rejected = Counter("mods_input_rejected", "Refused requests and observations.", ("reason",), registry=own)
        for reason in Reason:
            self._rejected.labels(reason)
        self._outcomes = {int(outcome): self._observations.labels(outcome.name.lower()) for outcome in Outcome}

    def call_metrics(self, kind: str, service: str, method: str) -> "CallMetrics":
        """Make the numbers of one RPC."""
        labels = (kind, service, method)
        return CallMetrics(self._started.labels(*labels), self._handling.labels(*labels), self._handled, labels)

    def instrument(self, model: str) -> Callable[[int, float], None]:
        """Return what is told of every run of a model: windows and seconds."""
        inference, sizes = self._inference.labels(model), self._sizes.labels(model)
        self._anomalies.labels(model)

        def note(windows: int, seconds: float) -> None:
            inference.observe(seconds)
            sizes.observe(windows)

        return note

    def count_observations(self, model: str, outcomes: NDArray[np.int8], anomalous: NDArray[np.bool_]) -> None:
        """Count what became of the observations of a message."""
        for outcome, count in enumerate(np.bincount(outcomes).tolist()):
            if count:
                self._outcomes[outcome].inc(count)
        if anomalies := int(anomalous.sum()):
            self._anomalies.labels(model).inc(anomalies)

    def count_observation(self, model: str, outcome: int, anomalous: bool) -> None:
        """Count what became of one observation."""
        self._outcomes[outcome].inc()
        if anomalous:
            self._anomalies.labels(model).inc()

    def count_rejected(self, reason: str, count: int = 1) -> None:
        """Count what was refused."""
        self._rejected.labels(reason).inc(count)

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Answer Prometheus on a port of its own, and return what ends that."""
        server = make_server(host, port, make_wsgi_app(self.registry), _MetricsServer, _SilentHandler)
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self.port = int(server.server_port)
        return close


class _MetricsServer(ThreadingMixIn, WSGIServer):
    """An HTTP server that does not look up its own name, which takes long where there is no name server to be reached."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()


class _SilentHandler(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Log nothing."""


class CallMetrics:
    """The numbers of one RPC."""

    def __init__(self, started: Counter, handling: Histogram, handled: Counter, labels: tuple[str, str, str]) -> None:
        self._started, self._handling = started, handling
        self._by_code = {name: handled.labels(*labels, name) for name in CODE_NAMES.values()}

    def start(self) -> None:
        """Count a call that begins."""
        self._started.inc()

    def finish(self, code: str, seconds: float) -> None:
        """Count a call that ended with a status code, such as "InvalidArgument"."""
        self._by_code[code].inc()
        self._handling.observe(seconds)


class ModelCollector:
    """The numbers of the models, read when Prometheus asks.

    Args:
        repository: The models.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def describe(self) -> Iterable[Metric]:
        """Name nothing before the first reading."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers as they are now."""
        info = GaugeMetricFamily("mods_model_info", "Versions in memory.", labels=("model", "version", "digest", "provider"))
        live = GaugeMetricFamily("mods_series_live", "Series held.", labels=("model",))
        evicted = CounterMetricFamily("mods_series_evicted", "Series dropped.", labels=("reason",))
        for entry in self._repository.entries():
            loaded = entry.loaded
            if loaded is not None:
                info.add_metric([entry.name, str(entry.version), entry.digest, loaded.session.provider], 1)
                if entry.state is entry.state.READY:
                    live.add_metric([entry.name], len(loaded.states))
        dropped = self._repository.eviction_counts()
        for reason in EVICTION_REASONS:
            evicted.add_metric([reason], dropped[reason])
        loads = CounterMetricFamily("mods_model_load", "Loads of versions.", labels=("outcome", "reason"))
        for outcome, reason in (("ready", ""), *(("failed", part) for part in sorted({*REJECTION_STAGES, "other"}))):
            loads.add_metric([outcome, reason], self._repository.load_counts[outcome, reason])
        yield from (info, live, evicted, loads)
