"""The client: one method per RPC, numpy in and out, the errors of `mods_grpc.errors`."""

import socket
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
from numpy.typing import ArrayLike

from mods_grpc.client.codec import decode as reading
from mods_grpc.client.codec import encode as requests
from mods_grpc.client.codec.encode import Explain
from mods_grpc.client.codec.times import TimeLike, TimesLike, nanos_of_all
from mods_grpc.client.results import DetectResult, ForecastResult, ModelInfo
from mods_grpc.client.rpc.channel import open_channel
from mods_grpc.client.rpc.errors import error_from_call
from mods_grpc.client.streaming.call import Connection
from mods_grpc.client.streaming.reconnecting import ResumePolicy
from mods_grpc.client.streaming.stream import DetectStream, StreamInput
from mods_grpc.errors import ConnectionFailedError
from mods_grpc.v1 import inference_pb2, inference_pb2_grpc, model_pb2, model_pb2_grpc

_Response = TypeVar("_Response")
_PAGE_SIZE = 1_000


class Client:
    """Talks to one server.

    Every method raises the error that the server raised (`mods_grpc.errors`), ConnectionFailedError where none answers
    and DeadlineError where it does not answer in time. Times are datetime (UTC where they name no zone), numpy.datetime64
    or integers in nanoseconds; NaN and None stand for missing values.

    Args:
        address: host:port, `unix:/path` or any other gRPC target.
        credentials: TLS credentials, such as `grpc.ssl_channel_credentials(...)`. None sends everything in the clear:
            for loopback and unix sockets.
        token: Bearer token.
        timeout_seconds: How long an answer may take.
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
        self._channel = open_channel(address, credentials)
        self._inference = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and whatever is under way on it."""
        self._channel.close()

    def models(self) -> list[ModelInfo]:
        """List all versions of all models, by name and then newest first."""
        found: list[ModelInfo] = []
        request = model_pb2.ListModelsRequest(page_size=_PAGE_SIZE)
        while True:
            response = self._call(self._models.ListModels, request)
            found.extend(reading.model_info(model) for model in response.models)
            if not response.next_page_token:
                return found
            request.page_token = response.next_page_token

    def model(self, name: str = "", version: int | None = None) -> ModelInfo:
        """Describe one model version.

        Args:
            name: Name of the model; may be empty when the server serves exactly one.
            version: None for the newest ready one, or the newest when none is ready.
        """
        request = model_pb2.GetModelRequest(name=name, version=requests.whole(version, "version"))
        return reading.model_info(self._call(self._models.GetModel, request).model)

    def forecast(
        self,
        windows: ArrayLike,
        start_times: TimesLike | TimeLike,
        *,
        model: str = "",
        version: int | None = None,
        horizon: int | None = None,
        coverages: Sequence[float] = (),
    ) -> ForecastResult:
        """Forecast the next steps of windows.

        Args:
            windows: `(n, rows, features)` or `(rows, features)` in raw units, with exactly the model's rows.
            start_times: Time of each window's first row: n of them, or one that holds for every window.
            model: Name of the model; may be empty when the server serves exactly one.
            version: Its version; None for the newest that is ready.
            horizon: Steps to forecast; None for as many as the model can.
            coverages: Coverages of the prediction intervals, each in (0, 1).

        Raises:
            InvalidInputError: Something in the request is wrong; `violations` says what and where.
            OutOfRangeError: The horizon is above the model's.
        """
        reference = requests.model_reference(model, version)
        request, shape = requests.forecast_request(windows, start_times, reference, horizon, coverages)
        response = self._call(self._inference.Forecast, request)
        starts = nanos_of_all(start_times, "start_times")
        return reading.forecast_result(response, starts, shape, tuple(request.coverages))

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
    ) -> DetectResult:
        """Judge rows of one series against the rows before them. Nothing of it stays on the server.

        Args:
            times: n times, ascending, on the model's grid.
            values: `(n, features)` in raw units.
            series: Name of the series.
            judge_rows: How many of the last rows to judge; None for all that have a full window before them.
            model: Name of the model; may be empty when the server serves exactly one.
            version: Its version; None for the newest that is ready.
            false_alarms_per_day: How many false alarms a day are acceptable; None for the model's default.
            significance: The same said as a p-value; only one of the two.
            explain: Which verdicts come in full: "none", "anomalies" or "all".
            impute_rows: How many missing rows to fill with the forecast; None for the server's default, 0 for none.

        Raises:
            InvalidInputError: Something in the request is wrong; `violations` says what and where.
        """
        request = inference_pb2.DetectRequest(
            model=requests.model_reference(model, version),
            series=[requests.detect_series(times, values, series, judge_rows)],
            sensitivity=requests.sensitivity(false_alarms_per_day, significance),
            explain=requests.explain_of(explain),
            gap_policy=requests.gap_policy(impute_rows),
        )
        return reading.detect_result(self._call(self._inference.Detect, request))

    def stream_detect(
        self,
        observations: Iterable[StreamInput],
        *,
        model: str = "",
        version: int | None = None,
        sensor: str | None = None,
        false_alarms_per_day: float | None = None,
        significance: float | None = None,
        explain: Explain = "anomalies",
        impute_rows: int | None = None,
        fixed_level: bool = False,
        own_scales: bool = False,
        in_flight: int = 1,
        resume: ResumePolicy | None = None,
    ) -> DetectStream:
        """Judge observations as they come; the server holds the windows. Resumes by itself over broken connections.

        Args:
            observations: Single ones, `(series, time, values)`, or `ObservationBatch`es, per series in order of time.
            model: Name of the model; may be empty when the server serves exactly one.
            version: Its version; None for the newest that is ready.
            sensor: Namespace of the series, the same after a restart of this program. None for the name of this host.
            false_alarms_per_day: How many false alarms per series and day are acceptable; None for the model's default.
            significance: The same said as a p-value; only one of the two.
            explain: Which verdicts come with features and a reason: "none", "anomalies" or "all".
            impute_rows: How many missing rows to fill with the forecast; None for the server's default, 0 for none.
            fixed_level: Whether every series is judged at the level in `opened`. Otherwise the level of each adapts, so that
                it raises as many alarms as the budget allows; never where `significance` is given.
            own_scales: Whether every series moves from the scales that the model was calibrated with to its own, as it fills:
                for series unlike those. p-values depend on all rows of a series then, not on the last ones only.
            in_flight: Most messages to send ahead of their answers, as far as they share no series. Leave it at 1 for a
                live source: above that a verdict may wait for the next observations.
            resume: How a lost connection is mended; None for `ResumePolicy()`.

        Returns:
            An iterator over one verdict per observation, in order. It is open already: `opened` says with which model's
            features. What was refused comes as a verdict with its `error`.

        Raises:
            ConnectionFailedError: No server answers, or the connection could not be mended.
            ModsError: The server refused the stream, or ended it for good.
        """
        config = inference_pb2.StreamConfig(
            model=requests.model_reference(model, version),
            sensor=sensor if sensor is not None else socket.gethostname(),
            sensitivity=requests.sensitivity(false_alarms_per_day, significance),
            explain=requests.explain_of(explain),
            gap_policy=requests.gap_policy(impute_rows),
            fixed_level=fixed_level,
            own_scales=own_scales,
        )

        def connect() -> Connection:
            return Connection(
                self._inference,
                config,
                address=self.address,
                metadata=self._metadata,
                answer_seconds=self._timeout_seconds,
            )

        return DetectStream(connect, observations, in_flight=in_flight, policy=resume or ResumePolicy())

    def _call(self, method: Callable[..., _Response], request: object) -> _Response:
        try:
            return method(request, timeout=self._timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as failure:
            raise error_from_call(failure, self.address) from failure
        except ValueError as error:  # what grpc says of a closed channel
            raise ConnectionFailedError("the client was closed") from error
