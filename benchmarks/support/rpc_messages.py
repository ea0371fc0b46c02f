"""Requests of any size for a model, with values in the range of its training data."""

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.protobuf.arrays import pack_float64, timestamp_from_nanos
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2

START_NANOS = 1_556_668_800 * NANOS_PER_SECOND
UNARY, STREAM = "/mods.v1.InferenceService/", "/mods.v1.InferenceService/StreamDetect"


def draw_random_walk(manifest, seed):
    """Draw raw rows, `(6000, features)`: a random walk within the range of a model's training data."""
    rng = np.random.default_rng(seed)
    low = np.array([feature.training_minimum for feature in manifest.features])
    high = np.array([feature.training_maximum for feature in manifest.features])
    walk = np.cumsum(rng.normal(0, 0.01, (6000, len(low))), axis=0)
    return np.maximum(low, low + (high - low) * (0.3 + 0.2 * np.tanh(walk)))


class RequestFactory:
    """Makes requests from a random walk within the range of the model's training data.

    With `anomalous` the values are scaled at random by orders of magnitude, so that every row is anomalous.
    """

    def __init__(self, manifest, anomalous=False):
        self.rows = draw_random_walk(manifest, 1)
        if anomalous:
            self.rows *= np.exp(np.random.default_rng(2).normal(0, 4, self.rows.shape))
        self.manifest = manifest
        self.model = pb.ModelReference(name=manifest.name)
        self.slide = manifest.slide_seconds * NANOS_PER_SECOND

    def make_windows(self, n):
        """Return `n` windows, `(n, rows, features)`."""
        views = np.lib.stride_tricks.sliding_window_view(self.rows, self.manifest.rows, axis=0)[:n].transpose(0, 2, 1)
        return np.ascontiguousarray(np.resize(views, (n, *views.shape[1:])))

    def make_forecast(self, n):
        """Return the bytes of a Forecast request of n windows."""
        batch = values_pb2.WindowBatch(start_time_unix_nano=[START_NANOS], values=pack_float64(self.make_windows(n)))
        return pb.ForecastRequest(model=self.model, batch=batch).SerializeToString()

    def make_detect(self, n):
        """Return the bytes of a Detect request that scores n rows of one series."""
        rows = self.manifest.rows + n
        batch = values_pb2.ObservationBatch(
            observe_time_unix_nano=[START_NANOS + i * self.slide for i in range(rows)],
            values=pack_float64(np.resize(self.rows, (rows, self.rows.shape[1]))),
        )
        request = pb.DetectRequest(model=self.model, explain=1)
        request.series.add(series="a", batch=batch)
        return request.SerializeToString()

    def make_stream(self, n, first, count):
        """Yield messages of n series, one row each: an observation if n is 1, as most clients send it, else a batch."""
        names = [f"host-{i}" for i in range(n)]
        for k in range(first, first + count):
            rows = self.rows[(k + np.arange(n) * 7) % len(self.rows)]
            data = pb.StreamData(sequence=k + 1)
            if n == 1:
                time = timestamp_from_nanos(START_NANOS + k * self.slide)
                data.observation.CopyFrom(values_pb2.Observation(series=names[0], observe_time=time, values=rows[0].tolist()))
            else:
                data.batch.series.extend(names)
                data.batch.observe_time_unix_nano.append(START_NANOS + k * self.slide)
                data.batch.values = pack_float64(rows)
            yield pb.StreamDetectRequest(data=data).SerializeToString()
