"""A model that is ready to run: one or two ONNX Runtime graphs, and how batches are run with them."""

from dataclasses import dataclass, replace

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact import BATCH_MODEL_FILE, MODEL_FILE
from mods_grpc.detection import append_interval
from mods_grpc.detection.engine.chunking import Chunking, ChunkRunner, run_sequentially
from mods_grpc.errors import ModelOutputError, Reason
from mods_grpc.server.onnx.io_binding import BUFFER_SIZES, Runner
from mods_grpc.server.onnx.ort import ort
from mods_grpc.server.scheduling.run_watchdog import Watchdog, current_call, run_start

MIN_WATCHED_BATCH = 64  # the canary has seen how long smaller batches take, and watching has a cost too
WATCHDOG = Watchdog()
# Windows per run, by provider. The working set of a run fits into the caches, and the arena of a session, which keeps its
# largest size for good, stays at a few MiB. A run of 4,096 windows takes 1.1 to 2 times as long as 32 runs of these, and keeps
# a hundred MiB and more.
MAX_RUN_WINDOWS = {"CPUExecutionProvider": 128}
LARGE_RUN_WINDOWS = 512  # windows per run of the large-batch graph, whose many small operators cost less in long runs


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded model.

    Attributes:
        runtime: The graph.
        provider: The execution provider that runs it.
        min_batch: Smallest batch it is given; smaller ones are padded. A matrix-vector kernel may sum in another order than the
            matrix kernels do, and a verdict must not depend on how many observations came together.
        batch_invariant: Whether forecasts were seen not to depend on the other windows of a batch.
        uses_time: Whether the time is one of the model's inputs.
        with_quantiles: Whether the ends of its quantiles are appended to the forecast.
        run_seconds: Time limit for the runs of one call of MIN_WATCHED_BATCH windows or more, together.
        large_graph: A second graph with bit-identical forecasts for large batches, LARGE_RUN_WINDOWS per run; None without one.
        min_large_batch: Smallest batch that `large_graph` runs.
        chunk_runner: Runs the chunks of a large batch.
        runner: Runs the graph on a device; None on the processor.
    """

    runtime: ort.InferenceSession
    provider: str
    min_batch: int = 1
    batch_invariant: bool = True
    uses_time: bool = False
    with_quantiles: bool = False
    run_seconds: float = 30.0
    large_graph: ort.InferenceSession | None = None
    min_large_batch: int = LARGE_RUN_WINDOWS
    chunk_runner: ChunkRunner = run_sequentially
    runner: Runner | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Outputs of the graph that are requested, in its order."""
        return ("forecast", "quantiles") if self.with_quantiles else ("forecast",)

    @property
    def graphs(self) -> list[tuple[str, "Session"]]:
        """One session per graph, with the name of its file."""
        second = [] if self.large_graph is None else [(BATCH_MODEL_FILE, replace(self, min_large_batch=0))]
        return [(MODEL_FILE, replace(self, large_graph=None)), *second]

    def forecast(self, windows: Floats, times: Times) -> Floats:
        """Forecast windows `(n, rows, features)` in raw units: `(n, horizon, outputs_per_feature * features)`, see `Forecaster`.

        `times` holds the time of each window's last row, `(n,)` nanoseconds since 1970.

        Raises:
            ModelOutputError: The run exceeded its time limit and was terminated.
            DeadlineError: The caller's deadline passed, or the call was cancelled.
        """
        runtime, max_windows = self.runtime, MAX_RUN_WINDOWS.get(self.provider, BUFFER_SIZES[-1])
        if self.large_graph is not None and len(windows) >= self.min_large_batch:
            runtime, max_windows = self.large_graph, LARGE_RUN_WINDOWS
        caller = current_call()
        if len(windows) < MIN_WATCHED_BATCH and caller is None:
            return self._run(runtime, windows, times)
        options = ort.RunOptions()  # shared by all chunks, so that all of them are terminated together

        def run(chunk: slice) -> Floats:
            if caller is not None:
                caller.raise_if_gone()
            return self._run(runtime, windows[chunk], times[chunk], options)

        try:
            with WATCHDOG.watch(options, run_start() + self.run_seconds, caller):
                forecasts = Chunking(max(1, max_windows), self.chunk_runner).run(run, len(windows))
        except Exception as error:  # ONNX Runtime raises bare types of its own
            if not options.terminate:
                raise
            if caller is not None:
                caller.raise_if_gone()
            message = f"the model took longer than {self.run_seconds:g} s and was stopped"
            raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, message) from error
        return forecasts[0] if len(forecasts) == 1 else np.concatenate(forecasts)

    def _run(self, runtime: ort.InferenceSession, windows: Floats, times: Times, options: ort.RunOptions | None = None) -> Floats:
        """Run a graph once."""
        n = len(windows)
        if 0 < n < self.min_batch:
            padding = self.min_batch - n
            windows = np.concatenate([windows, np.repeat(windows[-1:], padding, axis=0)])
            times = np.concatenate([times, np.repeat(times[-1:], padding)])
        feed = {"window": windows, "time": times} if self.uses_time else {"window": windows}
        outputs = runtime.run(self.outputs, feed, options) if self.runner is None else self.runner.run(feed, options)
        return (append_interval(*outputs) if self.with_quantiles else np.asarray(outputs[0]))[:n]
