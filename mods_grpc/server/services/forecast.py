"""The Forecast RPC."""

from dataclasses import dataclass

from mods_grpc.errors import ModsError
from mods_grpc.protobuf.arrays import FLOAT64_BYTES
from mods_grpc.server.codec.decode import find_model
from mods_grpc.server.codec.forecast_messages import decode_forecast_request, encode_forecast_response
from mods_grpc.server.codec.validation import check_name, raise_violations
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.security.authentication import CallerIdentity
from mods_grpc.v1 import inference_pb2 as pb


@dataclass(frozen=True, slots=True)
class ForecastServicer:
    """Forecasts with the models of a repository, within the limits of the configuration."""

    repository: Repository
    config: ServerConfig

    def bind_caller(self, request: pb.ForecastRequest, identity: CallerIdentity) -> None:
        """Set the sensor of a request, where it names one, to that of the caller.

        Raises:
            InvalidInputError: Its name is invalid.
        """
        if request.sensor:
            raise_violations([check_name(request.sensor, "sensor")])
            request.sensor = identity.own_sensor(request.sensor)

    def forecast(self, request: pb.ForecastRequest) -> pb.ForecastResponse:
        """Forecast the windows of a request.

        Raises:
            ModsError: The request is invalid, or its model can't answer.
        """
        valid = decode_forecast_request(request, find_model(self.repository, request.model, request.panes), self.config)
        return encode_forecast_response(request, valid, valid.model.forecast(valid.windows, valid.last_row_times))

    async def forecast_batched(self, request: pb.ForecastRequest) -> pb.ForecastResponse:
        """Forecast the windows of a request in one run with those of concurrent calls.

        Raises:
            ModsError: The request is invalid, or its model can't answer.
        """
        model = find_model(self.repository, request.model, request.panes)
        valid = decode_forecast_request(request, model, self.config)
        if model.micro_batcher is None:
            forecasts = model.forecast(valid.windows, valid.last_row_times)
        else:
            forecasts = await model.micro_batcher.forecast(valid.windows, valid.last_row_times)
        return encode_forecast_response(request, valid, forecasts)

    def estimate_seconds(self, request: pb.ForecastRequest) -> float:
        """Return how long a request is expected to take; 0 where it will be refused."""
        try:
            model = find_model(self.repository, request.model, request.panes)
        except ModsError:
            return 0.0
        bytes_per_window = model.manifest.rows * len(model.feature_names) * FLOAT64_BYTES
        return model.cost.estimate(len(request.windows.windows) or len(request.batch.values) // bytes_per_window)
