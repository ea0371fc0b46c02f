"""Forecast requests as arrays, validated, and forecasts as response messages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Singles, Times
from mods_grpc.errors import InvalidInputError, ModelOutputError, OutOfRangeError, Reason
from mods_grpc.protobuf.arrays import INT64_MAX, pack_float64, timestamp_from_nanos, unpack_float64, unpack_mask
from mods_grpc.server.codec.decode import decode_row_values, decode_time
from mods_grpc.server.codec.encode import encode_served_model
from mods_grpc.server.codec.validation import check_name, raise_violations, require_at_most, require_times, require_values
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.v1 import inference_pb2 as pb

MAX_COVERAGES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastInput:
    """A valid request.

    Attributes:
        model: The model that the request refers to.
        horizon: Steps to return.
        coverages: Of the intervals, each between 0 and 1.
        windows: `(n, rows, features)`, complete.
        first_times: `(n,)` nanoseconds of the first forecast step.
        series: n names, empty where a window has none; empty if none has.
    """

    model: LoadedModel
    horizon: int
    coverages: list[float]
    windows: Floats
    first_times: Times
    series: list[str]

    @property
    def last_row_times(self) -> Times:
        """Times of the windows' last rows, `(n,)` nanoseconds."""
        return self.first_times - self.model.manifest.slide_seconds * NANOS_PER_SECOND


def decode_forecast_request(request: pb.ForecastRequest, model: LoadedModel, config: ServerConfig) -> ForecastInput:
    """Validate a request to a model.

    Raises:
        InvalidInputError: It is invalid.
        OutOfRangeError: HORIZON_TOO_LONG.
    """
    horizon = _decode_horizon(request, model)
    coverages = _decode_coverages(request)
    kind = request.WhichOneof("input")
    if kind is None:
        raise InvalidInputError.for_field("input", Reason.FIELD_REQUIRED, "expected windows or batch, found neither")
    decode = _decode_windows if kind == "windows" else _decode_batch
    windows, start_times, path = decode(request, model, config)
    require_times(start_times, config.max_future_seconds, path)
    first_times = start_times + model.manifest.rows * model.manifest.slide_seconds * NANOS_PER_SECOND
    if kind == "windows":
        series = [window.series for window in request.windows.windows]
    else:
        series = _decode_series(request.batch.series, len(windows))
    return ForecastInput(
        model=model, horizon=horizon, coverages=coverages, windows=windows, first_times=first_times, series=series
    )


def encode_forecast_response(request: pb.ForecastRequest, valid: ForecastInput, forecasts: Floats) -> pb.ForecastResponse:
    """Encode the forecasts of a request's windows, as windows or columns like the request.

    Args:
        request: The request.
        valid: Its content.
        forecasts: `(n, horizon, outputs_per_feature * features)`.

    Raises:
        ModelOutputError: A forecast is not finite.
    """
    model, horizon, first_times = valid.model, valid.horizon, valid.first_times.tolist()
    forecasts = forecasts[:, :horizon]
    if not np.logical_and.reduce(np.isfinite(forecasts), axis=None):
        raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, "the model's forecast is not finite")
    paths = forecasts[..., : len(model.feature_names)]
    quantiles, own = _read_quantiles(request.sensor, valid)
    intervals = [model.detector.path_interval(forecasts, coverage) for coverage in valid.coverages]
    if quantiles is not None:
        for (lower, upper), coverage in zip(intervals, valid.coverages, strict=True):
            lower[own], upper[own] = model.detector.path_interval(forecasts[own], coverage, quantiles[own])
    response = pb.ForecastResponse(model=encode_served_model(model), features=model.feature_names, horizon=horizon)
    if request.WhichOneof("input") == "batch":
        response.batch.first_forecast_time_unix_nano.extend(first_times)
        response.batch.values = pack_float64(paths)
        response.batch.lower = b"".join(pack_float64(lower) for lower, _ in intervals)
        response.batch.upper = b"".join(pack_float64(upper) for _, upper in intervals)
        response.batch.own_intervals.extend(own if any(own) else ())
        return response
    slide = model.manifest.slide_seconds * NANOS_PER_SECOND
    for i, window in enumerate(request.windows.windows):
        forecast = response.forecasts.forecasts.add(series=window.series, own_intervals=own[i])
        for k in range(horizon):
            time = timestamp_from_nanos(first_times[i] + k * slide)
            step = forecast.steps.add(forecast_time=time, values=paths[i, k].tolist())
            for coverage, (lower, upper) in zip(valid.coverages, intervals, strict=True):
                step.intervals.add(coverage=coverage, lower=lower[i, k].tolist(), upper=upper[i, k].tolist())
    response.forecasts.SetInParent()
    return response


def _read_quantiles(sensor: str, valid: ForecastInput) -> tuple[Singles | None, list[bool]]:
    """Return the own quantiles of the windows' series as `path_interval` takes them, and for which windows there are any."""
    if not (sensor and valid.coverages and valid.series):
        return None, [False] * len(valid.windows)
    quantiles, own = valid.model.series.own_quantiles(sensor, valid.series)
    return quantiles if own.any() else None, own.tolist()


def _decode_series(names: Sequence[str], windows: int) -> list[str]:
    """Return the names of the series of a batch; empty if it has none."""
    if names and len(names) != windows:
        text = f"expected none or {windows} names, found {len(names)}"
        raise InvalidInputError.for_field("batch.series", Reason.SHAPE_MISMATCH, text, limit=windows, actual=len(names))
    raise_violations([check_name(name, f"batch.series[{i}]") for i, name in enumerate(names) if name])
    return list(names)


def _decode_horizon(request: pb.ForecastRequest, model: LoadedModel) -> int:
    if not request.HasField("horizon"):
        return model.manifest.horizon
    if request.horizon < 1:
        raise InvalidInputError.for_field("horizon", Reason.HORIZON_INVALID, "expected at least 1, found 0", limit=1, actual=0)
    if request.horizon > model.manifest.horizon:
        text = f"horizon: the model forecasts {model.manifest.horizon} steps, {request.horizon} were asked for"
        raise OutOfRangeError(Reason.HORIZON_TOO_LONG, text, limit=model.manifest.horizon, actual=request.horizon)
    return request.horizon


def _decode_coverages(request: pb.ForecastRequest) -> list[float]:
    if not request.coverages:
        return []
    require_at_most(len(request.coverages), MAX_COVERAGES, "coverages", "coverages")
    for i, coverage in enumerate(request.coverages):
        if not 0 < coverage < 1:
            text = f"expected more than 0 and less than 1, found {coverage:g}"
            raise InvalidInputError.for_field(f"coverages[{i}]", Reason.FIELD_INVALID, text)
    return list(request.coverages)


def _decode_windows(request: pb.ForecastRequest, model: LoadedModel, config: ServerConfig) -> tuple[Floats, Times, str]:
    """Read windows as rows.

    Returns:
        The last rows of each, `(n, rows, features)`; their start times, `(n,)` nanoseconds; the path of these times.
    """
    rows = model.manifest.rows
    messages = request.windows.windows
    if not messages:
        raise InvalidInputError.for_field("windows.windows", Reason.EMPTY_INPUT, "expected at least one window, found none")
    require_at_most(len(messages), config.max_observations, "windows.windows", "windows")
    windows, start_times = [], []
    for i, message in enumerate(messages):
        path = f"windows.windows[{i}]."
        if message.series:
            raise_violations([check_name(message.series, f"{path}series")])
        if not message.rows:
            raise InvalidInputError.for_field(f"{path}rows", Reason.EMPTY_INPUT, "expected rows, found none")
        count = len(message.rows)
        if count < rows:
            text = f"expected at least {rows} rows, found {count}"
            raise InvalidInputError.for_field(f"{path}rows", Reason.WINDOW_TOO_SHORT, text, limit=rows, actual=count)
        require_at_most(count, config.max_window_rows, f"{path}rows", "rows", Reason.WINDOW_TOO_LONG)
        pairs = [decode_row_values(row, model.feature_names, f"{path}rows[{r}].") for r, row in enumerate(message.rows)]
        values, missing = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])

        def value_path(index: tuple[int, ...], path: str = path) -> str:
            return f"{path}rows[{index[0]}].values[{index[1]}]"

        require_values(values, model.minimums, value_path)
        skipped = count - rows
        start = decode_time(message, "start_time", f"{path}start_time")
        # bounded to INT64_MAX, which is refused later
        start_times.append(min(start + skipped * model.manifest.slide_seconds * NANOS_PER_SECOND, INT64_MAX))
        windows.append(_forward_fill(values[None], missing[None], f"{path}rows[0].missing")[0, skipped:])
    return np.stack(windows), np.array(start_times, np.int64), "windows.windows[{}].start_time"


def _decode_batch(request: pb.ForecastRequest, model: LoadedModel, config: ServerConfig) -> tuple[Floats, Times, str]:
    """Read windows as columns; returns what `_decode_windows` does."""
    batch, rows, count = request.batch, model.manifest.rows, len(model.feature_names)
    values = unpack_float64(batch.values, (-1, rows, count), "batch.values")
    n = len(values)
    if n == 0:
        raise InvalidInputError.for_field("batch.values", Reason.EMPTY_INPUT, "expected at least one window, found none")
    require_at_most(n, config.max_observations, "batch.values", "windows")
    missing = unpack_mask(batch.missing, (n, rows, count), "batch.missing") if batch.missing else None
    start_times = np.array(batch.start_time_unix_nano, np.int64)
    if start_times.size not in (1, n):
        text, field = f"expected 1 or {n} times, found {start_times.size}", "batch.start_time_unix_nano"
        raise InvalidInputError.for_field(field, Reason.SHAPE_MISMATCH, text, limit=n, actual=start_times.size)
    if missing is not None:
        values = np.where(missing, 0.0, values)
    value_path = "batch.values[window {}, row {}, feature {}]".format
    require_values(values, model.minimums, lambda index: value_path(*index))
    windows = values if missing is None else _forward_fill(values, missing, "batch.missing")
    return windows, start_times if start_times.size == n else start_times.repeat(n), "batch.start_time_unix_nano[{}]"


def _forward_fill(values: Floats, missing: Bools, path: str) -> Floats:
    """Replace missing values `(n, rows, features)` by the last one before them."""
    if not missing.any():
        return values
    if missing[:, 0].any():
        raise InvalidInputError.for_field(path, Reason.FEATURE_MISSING, "the first row of a window must be complete")
    position = np.where(missing, 0, np.arange(values.shape[1])[None, :, None])
    return np.take_along_axis(values, np.maximum.accumulate(position, axis=1), axis=1)
