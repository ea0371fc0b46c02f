"""Forecast, free of transport: a request in, a response out, everything bad an error of ours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import NANOS_PER_SECOND, Floats, Times
from mods_grpc.errors import InvalidInputError, ModelOutputError, ModsError, OutOfRangeError, Reason
from mods_grpc.protobuf.arrays import FLOAT64_BYTES, INT64_MAX, pack_float64, timestamp_from_nanos, unpack_float64, unpack_mask
from mods_grpc.server.codec.decode import find_model, decode_time, decode_row_values
from mods_grpc.server.codec.encode import encode_served_model
from mods_grpc.server.codec.validation import raise_violations, check_name, require_at_most, require_times, require_values
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.loader import LoadedModel
from mods_grpc.server.models.repository import Repository
from mods_grpc.v1 import inference_pb2 as pb


@dataclass(frozen=True, slots=True)
class ForecastServicer:
    """The Forecast RPC over a repository."""

    repository: Repository
    config: ServerConfig

    def forecast(self, request: pb.ForecastRequest) -> pb.ForecastResponse:
        """Forecast the windows of a request.

        Raises:
            ModsError: As protocol.md's table says for unary calls.
        """
        asked = self._read(request)
        return _answer(request, asked, asked.model.forecast(asked.windows, asked.times))

    async def forecast_batched(self, request: pb.ForecastRequest) -> pb.ForecastResponse:
        """Forecast the windows of a request, together with those of other calls."""
        asked = self._read(request)
        model = asked.model
        if model.gatherer is None:
            return _answer(request, asked, model.forecast(asked.windows, asked.times))
        return _answer(request, asked, await model.gatherer.forecast(asked.windows, asked.times))

    def estimate_seconds(self, request: pb.ForecastRequest) -> float:
        """Return how long a request is expected to take; 0 where it will be refused."""
        try:
            model = find_model(self.repository, request.model)
        except ModsError:
            return 0.0
        bytes_a_window = model.manifest.rows * len(model.feature_names) * FLOAT64_BYTES
        return model.cost.estimate(len(request.windows.windows) or len(request.batch.values) // bytes_a_window)

    def _read(self, request: pb.ForecastRequest) -> "_Asked":
        model = find_model(self.repository, request.model)
        horizon = self._horizon(request, model)
        coverages = _coverages(request)
        kind = request.WhichOneof("input")
        if kind is None:
            raise InvalidInputError.of("input", Reason.FIELD_REQUIRED, "expected windows or batch, found neither")
        windows, starts, path = self._rows(request, model) if kind == "windows" else self._batch(request, model)
        require_times(starts, self.config.max_future_seconds, path)
        firsts = starts + model.manifest.rows * model.manifest.slide_seconds * NANOS_PER_SECOND
        return _Asked(model=model, horizon=horizon, coverages=coverages, windows=windows, firsts=firsts)

    def _horizon(self, request: pb.ForecastRequest, model: LoadedModel) -> int:
        if not request.HasField("horizon"):
            return model.manifest.horizon
        if request.horizon < 1:
            raise InvalidInputError.of("horizon", Reason.HORIZON_INVALID, "expected at least 1, found 0", limit=1, actual=0)
        if request.horizon > model.manifest.horizon:
            text = f"horizon: the model forecasts {model.manifest.horizon} steps, {request.horizon} were asked for"
            raise OutOfRangeError(Reason.HORIZON_TOO_LONG, text, limit=model.manifest.horizon, actual=request.horizon)
        return request.horizon

    def _rows(self, request: pb.ForecastRequest, model: LoadedModel) -> tuple[Floats, Times, str]:
        """Read windows as rows.

        Returns:
            The last rows of each, `(n, rows, features)`; when they start, `(n,)` nanoseconds; the path of these times.
        """
        rows = model.manifest.rows
        messages = request.windows.windows
        if not messages:
            raise InvalidInputError.of("windows.windows", Reason.EMPTY_INPUT, "expected at least one window, found none")
        require_at_most(len(messages), self.config.max_observations, "windows.windows", "windows")
        found, starts = [], []
        for i, message in enumerate(messages):
            path = f"windows.windows[{i}]."
            if message.series:
                raise_violations([check_name(message.series, f"{path}series")])
            if not message.rows:
                raise InvalidInputError.of(f"{path}rows", Reason.EMPTY_INPUT, "expected rows, found none")
            if len(message.rows) < rows:
                text = f"expected at least {rows} rows, found {len(message.rows)}"
                raise InvalidInputError.of(f"{path}rows", Reason.WINDOW_TOO_SHORT, text, limit=rows, actual=len(message.rows))
            require_at_most(len(message.rows), self.config.max_window_rows, f"{path}rows", "rows", Reason.WINDOW_TOO_LONG)
            pairs = [decode_row_values(row, model.feature_names, f"{path}rows[{r}].") for r, row in enumerate(message.rows)]
            values, missing = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])

            def place(index: tuple[int, ...], path: str = path) -> str:
                return f"{path}rows[{index[0]}].values[{index[1]}]"

            require_values(values, model.least, place)
            skipped = len(message.rows) - rows
            start = decode_time(message, "start_time", f"{path}start_time")
            starts.append(min(start + skipped * model.manifest.slide_seconds * NANOS_PER_SECOND, INT64_MAX))  # which is refused
            found.append(_forward_fill(values[None], missing[None], f"{path}rows[0].missing")[0, skipped:])
        return np.stack(found), np.array(starts, np.int64), "windows.windows[{}].start_time"

    def _batch(self, request: pb.ForecastRequest, model: LoadedModel) -> tuple[Floats, Times, str]:
        """Read windows as columns, and return what `_rows` does."""
        batch, rows, count = request.batch, model.manifest.rows, len(model.feature_names)
        values = unpack_float64(batch.values, (-1, rows, count), "batch.values")
        n = len(values)
        if n == 0:
            raise InvalidInputError.of("batch.values", Reason.EMPTY_INPUT, "expected at least one window, found none")
        require_at_most(n, self.config.max_observations, "batch.values", "windows")
        missing = unpack_mask(batch.missing, (n, rows, count), "batch.missing") if batch.missing else None
        starts = np.array(batch.start_time_unix_nano, np.int64)
        if starts.size not in (1, n):
            text = f"expected 1 or {n} times, found {starts.size}"
            raise InvalidInputError.of("batch.start_time_unix_nano", Reason.SHAPE_MISMATCH, text, limit=n, actual=starts.size)
        if missing is not None:
            values = np.where(missing, 0.0, values)
        place = "batch.values[window {}, row {}, feature {}]".format
        require_values(values, model.least, lambda index: place(*index))
        windows = values if missing is None else _forward_fill(values, missing, "batch.missing")
        return windows, starts if starts.size == n else starts.repeat(n), "batch.start_time_unix_nano[{}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """A request, checked: `windows` `(n, rows, features)`, `firsts` `(n,)`, the time of the first step of each in nanoseconds."""

    model: LoadedModel
    horizon: int
    coverages: list[float]
    windows: Floats
    firsts: Times

    @property
    def times(self) -> Times:
        """Times of the windows' last rows, `(n,)` nanoseconds."""
        return self.firsts - self.model.manifest.slide_seconds * NANOS_PER_SECOND


def _answer(request: pb.ForecastRequest, asked: _Asked, forecasts: Floats) -> pb.ForecastResponse:
    model, horizon, firsts = asked.model, asked.horizon, asked.firsts.tolist()
    made = forecasts[:, :horizon]
    if not np.logical_and.reduce(np.isfinite(made), axis=None):
        raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, "the model's forecast is not finite")
    paths = made[..., : len(model.feature_names)]
    bands = [model.detector.path_interval(made, coverage) for coverage in asked.coverages]
    response = pb.ForecastResponse(model=encode_served_model(model), features=model.feature_names, horizon=horizon)
    if request.WhichOneof("input") == "batch":
        response.batch.first_forecast_time_unix_nano.extend(firsts)
        response.batch.values = pack_float64(paths)
        response.batch.lower = b"".join(pack_float64(low) for low, _ in bands)
        response.batch.upper = b"".join(pack_float64(high) for _, high in bands)
        return response
    slide = model.manifest.slide_seconds * NANOS_PER_SECOND
    for i, window in enumerate(request.windows.windows):
        forecast = response.forecasts.forecasts.add(series=window.series)
        for k in range(horizon):
            step = forecast.steps.add(forecast_time=timestamp_from_nanos(firsts[i] + k * slide), values=paths[i, k].tolist())
            for coverage, (low, high) in zip(asked.coverages, bands, strict=True):
                step.intervals.add(coverage=coverage, lower=low[i, k].tolist(), upper=high[i, k].tolist())
    response.forecasts.SetInParent()
    return response


def _coverages(request: pb.ForecastRequest) -> list[float]:
    if not request.coverages:
        return []
    require_at_most(len(request.coverages), 16, "coverages", "coverages")
    for i, coverage in enumerate(request.coverages):
        if not 0 < coverage < 1:
            text = f"expected more than 0 and less than 1, found {coverage:g}"
            raise InvalidInputError.of(f"coverages[{i}]", Reason.FIELD_INVALID, text)
    return list(request.coverages)


def _forward_fill(values: Floats, missing: NDArray[np.bool_], path: str) -> Floats:
    """Replace missing values `(n, rows, features)` by the last known one before them."""
    if not missing.any():
        return values
    if missing[:, 0].any():
        raise InvalidInputError.of(path, Reason.FEATURE_MISSING, "the first row of a window must be complete")
    position = np.where(missing, 0, np.arange(values.shape[1])[None, :, None])
    return np.take_along_axis(values, np.maximum.accumulate(position, axis=1), axis=1)
