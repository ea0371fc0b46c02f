"""Prometheus metrics of calls, model runs and observations.

No metric has a label by series, sensor or peer, because their number is unbounded. Counters are exported as 0 from the start:
Prometheus sees no increase in a counter that appears with its first event, so an alert on it would miss that event.
"""

from collections.abc import Callable

import grpc
import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mods_grpc.array_types import Bools
from mods_grpc.detection import Outcome
from mods_grpc.errors import Reason
from mods_grpc.server.telemetry.connection_ends import ConnectionEnds
from mods_grpc.server.telemetry.metrics_endpoint import serve_registry

LATENCY_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_SIZE_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384)
# as in go-grpc-prometheus, so that existing dashboards work
CODE_NAMES = {code: code.name.title().replace("_", "") for code in grpc.StatusCode}
CODE_NAMES |= {grpc.StatusCode.OK: "OK", grpc.StatusCode.CANCELLED: "Canceled"}
CALL_LABELS = ("grpc_type", "grpc_service", "grpc_method")


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._started = Counter("grpc_server_started", "Calls started.", CALL_LABELS, registry=registry)
        self._handled = Counter(
            "grpc_server_handled", "Calls finished, by status.", (*CALL_LABELS, "grpc_code"), registry=registry
        )
        self._handling = Histogram(
            "grpc_server_handling_seconds", "Duration of calls.", CALL_LABELS, buckets=LATENCY_BUCKETS, registry=registry
        )
        self._inference = Histogram(
            "mods_inference_duration_seconds", "Duration of a model run.", ("model",), buckets=LATENCY_BUCKETS, registry=registry
        )
        self._sizes = Histogram(
            "mods_batch_size", "Windows per model run.", ("model",), buckets=BATCH_SIZE_BUCKETS, registry=registry
        )
        self.queue_wait = Histogram(
            "mods_queue_wait_seconds", "Wait for a pool thread.", buckets=LATENCY_BUCKETS, registry=registry
        )
        self.streams_open = Gauge("mods_streams_open", "Open StreamDetect calls.", registry=registry)
        self._observations = Counter("mods_observations", "Observations of streams, by outcome.", ("outcome",), registry=registry)
        self._anomalies = Counter("mods_anomalies", "Anomalous observations of streams.", ("model",), registry=registry)
        self._rejected = Counter("mods_input_rejected", "Rejected requests and observations.", ("reason",), registry=registry)
        self._state_writes = Counter(
            "mods_state_writes", "Writes of the state file, by outcome.", ("outcome",), registry=registry
        )
        for outcome in ("written", "failed"):
            self._state_writes.labels(outcome)
        for reason in Reason:
            self._rejected.labels(reason)
        self._outcomes = {int(outcome): self._observations.labels(outcome.name.lower()) for outcome in Outcome}

    def make_call_metrics(self, kind: str, service: str, method: str) -> "CallMetrics":
        """Create the metrics of one RPC."""
        labels = (kind, service, method)
        return CallMetrics(self._started.labels(*labels), self._handling.labels(*labels), self._handled, labels)

    def observe_connections(self) -> ConnectionEnds:
        """Create the metrics of the direct transport. Call it once; without a call they are not exported."""
        return ConnectionEnds(self.registry)

    def instrument(self, model: str) -> Callable[[int, float], None]:
        """Return a function that records one run of a model: its windows and its seconds."""
        inference, sizes = self._inference.labels(model), self._sizes.labels(model)
        self._anomalies.labels(model)

        def record(windows: int, seconds: float) -> None:
            inference.observe(seconds)
            sizes.observe(windows)

        return record

    def count_observations(self, model: str, outcomes: NDArray[np.int8], anomalous: Bools) -> None:
        """Count the outcomes `(n,)` and the anomalous rows of a message's observations."""
        for outcome, count in enumerate(np.bincount(outcomes).tolist()):
            if count:
                self._outcomes[outcome].inc(count)
        if count := int(anomalous.sum()):
            self._anomalies.labels(model).inc(count)

    def count_observation(self, model: str, outcome: int, anomalous: bool) -> None:
        """Count the outcome of one observation."""
        self._outcomes[outcome].inc()
        if anomalous:
            self._anomalies.labels(model).inc()

    def count_rejected(self, reason: str, count: int = 1) -> None:
        """Count rejected requests or observations."""
        self._rejected.labels(reason).inc(count)

    def count_state_write(self, written: bool) -> None:
        """Count a write of the state file."""
        self._state_writes.labels("written" if written else "failed").inc()

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Serve the metrics over HTTP on a thread of its own, and return a function that stops it."""
        self.port, close = serve_registry(self.registry, host, port)
        return close


class CallMetrics:
    """The metrics of one RPC."""

    def __init__(self, started: Counter, handling: Histogram, handled: Counter, labels: tuple[str, str, str]) -> None:
        self._started, self._handling = started, handling
        self._by_code = {name: handled.labels(*labels, name) for name in CODE_NAMES.values()}

    def start(self) -> None:
        """Count a started call."""
        self._started.inc()

    def finish(self, code: str, seconds: float) -> None:
        """Count a finished call with its status code, such as "InvalidArgument", and its duration."""
        self._by_code[code].inc()
        self._handling.observe(seconds)
