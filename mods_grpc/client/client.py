"""The client: one method per RPC, with numpy arrays in and out and the errors of `mods_grpc.errors`."""

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
from numpy.typing import ArrayLike

from mods_grpc.client.codec import decode, encode
from mods_grpc.client.codec.encode import Explain
from mods_grpc.client.codec.times import TimeLike, TimesLike, to_nanos_array
from mods_grpc.client.results import DetectResult, ForecastResult, ModelInfo
from mods_grpc.client.rpc.connection import Connection, SharedChannel
from mods_grpc.client.rpc.errors import error_from_call, is_overdue
from mods_grpc.client.streaming.call import DetectCall
from mods_grpc.client.streaming.reconnecting import ResumePolicy
from mods_grpc.client.streaming.row_history import RowHistory
from mods_grpc.client.streaming.stream import DetectStream, StreamInput
from mods_grpc.errors import ConnectionFailedError

_Response = TypeVar("_Response")
_PAGE_SIZE = 1_000


class Client:
    """A client of one server. May be used by several threads.

    Every method raises the error that the server raised (`mods_grpc.errors`), ConnectionFailedError if no server answers, and
    DeadlineError if it does not answer in time; the calls after that use a new connection, because the old one may be dead. Times
    are datetime (UTC if they have no zone), numpy.datetime64 or integers in nanoseconds; NaN and None are missing values.

    Args:
        address: host:port, `unix:/path` or any other gRPC target.
        credentials: TLS credentials, such as `grpc.ssl_channel_credentials(...)`. None for a connection without TLS, such
            as over loopback or a unix socket.
        token: Bearer token.
        timeout_seconds: Time limit for an answer.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        self.address = address
        self._timeout_seconds = timeout_seconds
        self._metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {token}"),) if token else ()
        self._connection = Connection(address, credentials, timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Calls in progress are cancelled."""
        self._connection.close()

    def models(self) -> list[ModelInfo]:
        """List all versions of all models, by name and then newest first."""
        models: list[ModelInfo] = []
        request = encode.encode_list_models_request(_PAGE_SIZE)
        while True:
            response = self._call(lambda channel: channel.models.ListModels, request)
            models.extend(decode.decode_model(model) for model in response.models)
            if not response.next_page_token:
                return models
            request.page_token = response.next_page_token

    def model(self, name: str = "", version: int | None = None) -> ModelInfo:
        """Describe one model version.

        Args:
            name: Name of the model; may be empty if the server serves exactly one.
            version: Version of the model; None for the newest that is ready, or the newest if none is.
        """
        request = encode.encode_get_model_request(name, version)
        return decode.decode_model(self._call(lambda channel: channel.models.GetModel, request).model)

    def forecast(
        self,
        windows: ArrayLike,
        start_times: TimesLike | TimeLike,
        *,
        model: str = "",
        version: int | None = None,
        horizon: int | None = None,
        coverages: Sequence[float] = (),
        panes: bool = False,
        sensor: str = "",
        series: Sequence[str] = (),
    ) -> ForecastResult:
        """Forecast the next steps of windows.

        Args:
            windows: `(n, rows, features)` or `(rows, features)` in raw units, with as many rows as the model's window.
            start_times: Time of each window's first row: n of them, or one for all windows.
            model: Name of the model; may be empty if the server serves exactly one.
            version: Version of the model; None for the newest that is ready.
            horizon: Number of steps to forecast; None for the model's horizon.
            coverages: Coverages of the prediction intervals, each in (0, 1).
            panes: Whether the rows hold what was counted in the last slide of each window alone, of the features that have
                `FeatureInfo.pane`. A model with such features needs it, and understands no other rows.
            sensor: Sensor of a stream with `own_intervals` whose series the windows are of, to get the intervals of those series.
            series: Name of each window's series, which `sensor` needs; empty for none.

        Raises:
            InvalidInputError: The request is invalid; `violations` lists the fields and what is wrong with them.
            OutOfRangeError: The horizon is above the model's.
        """
        reference = encode.encode_model_reference(model, version)
        request, shape = encode.encode_forecast_request(
            windows, start_times, reference, horizon, coverages, panes=panes, sensor=sensor, series=series
        )
        response = self._call(lambda channel: channel.inference.Forecast, request)
        starts = to_nanos_array(start_times, "start_times")
        return decode.decode_forecast(response, starts, shape, tuple(request.coverages))

    def detect(
        self,
        times: TimesLike,
        values: ArrayLike,
        *,
        series: str = "series",
        judge_rows: int | None = None,
        model: str = "",
        version: int | None = None,
        false_alarms_per_day: float | None = None,
        significance: float | None = None,
        explain: Explain = "anomalies",
        impute_rows: int | None = None,
        panes: bool = False,
    ) -> DetectResult:
        """Detect anomalies in rows of one series, given the rows before them. The server keeps no state of it.

        Args:
            times: n times, ascending, on the model's grid.
            values: `(n, features)` in raw units.
            series: Name of the series.
            judge_rows: How many of the last rows to score; None for all that have a full window before them.
            model: Name of the model; may be empty if the server serves exactly one.
            version: Version of the model; None for the newest that is ready.
            false_alarms_per_day: Acceptable false alarms per day; None for the model's default.
            significance: Report rows with a p-value of at most this, instead of a budget of false alarms.
            explain: Which verdicts come with features and a reason: "none", "anomalies" or "all".
            impute_rows: Longest gap in rows that is filled with the forecast; None for the server's default, 0 for none.
            panes: Whether the rows hold what was counted in the last slide of each window alone, of the features that have
                `FeatureInfo.pane`. A model with such features needs it, and understands no other rows.

        Raises:
            InvalidInputError: The request is invalid; `violations` lists the fields and what is wrong with them.
        """
        request = encode.encode_detect_request(
            encode.encode_detect_series(times, values, series, judge_rows),
            encode.encode_model_reference(model, version),
            sensitivity=encode.encode_sensitivity(false_alarms_per_day, significance),
            explain=explain,
            impute_rows=impute_rows,
            panes=panes,
        )
        return decode.decode_detection(self._call(lambda channel: channel.inference.Detect, request))

    def stream_detect(
        self,
        observations: Iterable[StreamInput],
        *,
        model: str = "",
        version: int | None = None,
        sensor: str | None = None,
        false_alarms_per_day: float | None = None,
        significance: float | None = None,
        total_false_alarms_per_day: float | None = None,
        explain: Explain = "anomalies",
        impute_rows: int | None = None,
        fixed_level: bool = False,
        own_scales: bool = False,
        own_envelope: bool = False,
        panes: bool = False,
        own_intervals: bool = False,
        in_flight: int = 1,
        resume: ResumePolicy | None = None,
        history: RowHistory | None = None,
    ) -> DetectStream:
        """Detect anomalies in observations as they arrive; the server keeps the windows. Reconnects and resumes by itself.

        Args:
            observations: `Observation`s, tuples `(series, time, values)` or `ObservationBatch`es, in order of time per series.
            model: Name of the model; may be empty if the server serves exactly one.
            version: Version of the model; None for the newest that is ready.
            sensor: Namespace of the series on the server, which must be the same after a restart. None for the host name.
            false_alarms_per_day: Acceptable false alarms per series and day; None for the model's default.
            significance: Report rows with a p-value of at most this, instead of a budget of false alarms.
            total_false_alarms_per_day: Acceptable false alarms per day of all series of the sensor together, instead of a budget
                for each. Observations should then be in order of time over all series.
            explain: Which verdicts come with features and a reason: "none", "anomalies" or "all".
            impute_rows: Longest gap in rows that is filled with the forecast; None for the server's default, 0 for none.
            fixed_level: Whether to keep the significance level of `opened` for every series. If not, each series' level adapts so
                that it raises as many alarms as the budget allows; it never adapts if `significance` is given.
            own_scales: Whether each series' scales adapt from those of the model's calibration to its own, for series unlike the
                calibration's. p-values then depend on all rows of a series, not only on the last ones.
            own_envelope: Whether each series is judged by what it usually reaches itself, as soon as it is known well enough.
            own_intervals: Whether each series learns prediction intervals of its own, which verdicts and `forecast` then show.
                p-values then depend on all rows of a series too.
            panes: Whether the rows hold what was counted in the last slide of each window alone, of the features that
                `opened.panes` names. A model with such features needs it, and understands no other rows.
            in_flight: Maximum of unanswered messages. Messages that share a series are never in flight together. Leave it at 1
                for a live source, because above that a verdict may wait for the next observations.
            resume: How to reconnect; None for `ResumePolicy()`.
            history: The last rows of the series, such as those a caller saved. A server that lost them is warmed up with them
                when the stream reconnects, and rows that the server applies are added. None starts with none.

        Returns:
            An iterator over one verdict per observation, in order. The stream is open: `opened` holds the model's features. A
            rejected observation has a verdict with an `error`.

        Raises:
            ConnectionFailedError: No server answers, or reconnecting failed.
            ModsError: The server rejected the stream, or ended it with an error that cannot be retried.
        """
        config = encode.encode_stream_config(
            encode.encode_model_reference(model, version),
            sensor=sensor if sensor is not None else socket.gethostname(),
            sensitivity=encode.encode_sensitivity(false_alarms_per_day, significance),
            total_false_alarms_per_day=total_false_alarms_per_day,
            explain=explain,
            impute_rows=impute_rows,
            fixed_level=fixed_level,
            own_scales=own_scales,
            own_envelope=own_envelope,
            panes=panes,
            own_intervals=own_intervals,
        )

        def open_call(series: Sequence[str]) -> DetectCall:
            del config.series[:]
            config.series.extend(series)
            return DetectCall(self._connection, config, metadata=self._metadata, answer_seconds=self._timeout_seconds)

        return DetectStream(open_call, observations, in_flight=in_flight, policy=resume or ResumePolicy(), history=history)

    def _call(self, get_method: Callable[[SharedChannel], Callable[..., _Response]], request: object) -> _Response:
        channel, asked_at = self._connection.acquire(), time.monotonic()
        try:
            response = get_method(channel)(request, timeout=self._timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as failure:
            if is_overdue(failure):
                self._connection.replace(channel, asked_at)
            raise error_from_call(failure, self.address) from failure
        except ValueError as error:  # grpc raises it for a closed channel
            raise ConnectionFailedError("the client was closed") from error
        else:
            channel.answered_at = time.monotonic()
            return response
        finally:
            self._connection.release(channel)
