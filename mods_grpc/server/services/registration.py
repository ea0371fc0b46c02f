"""The RPCs as gRPC sees them. They only translate; `stream`, `forecasting`, `detecting` and `models` do the work."""

import grpc

from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.rpc.boundary import Edge
from mods_grpc.server.security.authentication import Scope
from mods_grpc.server.services.detect import DetectServicer
from mods_grpc.server.services.forecast import ForecastServicer
from mods_grpc.server.services.model_directory import ModelDirectory
from mods_grpc.server.streaming.registry import StreamRegistry
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import model_pb2

INFERENCE_SERVICE = "mods.v1.InferenceService"
MODEL_SERVICE = "mods.v1.ModelService"


def make_handlers(repository: Repository, config: ServerConfig, streams: StreamRegistry, edge: Edge) -> list[grpc.GenericRpcHandler]:
    """Make the handlers of both services."""
    directory, infer, models = ModelDirectory(repository), INFERENCE_SERVICE, MODEL_SERVICE
    forecasting, detecting = ForecastServicer(repository, config), DetectServicer(repository, config)
    return [
        grpc.method_handlers_generic_handler(
            infer,
            {
                "Forecast": edge.unary(
                    infer,
                    "Forecast",
                    pb.ForecastRequest,
                    forecasting.forecast,
                    seconds=forecasting.estimate_seconds,
                    gathered=forecasting.forecast_batched,
                ),
                "Detect": edge.unary(infer, "Detect", pb.DetectRequest, detecting.detect, seconds=detecting.estimate_seconds),
                "StreamDetect": edge.streaming(infer, "StreamDetect", streams.detect),
            },
        ),
        grpc.method_handlers_generic_handler(
            models,
            {
                "ListModels": edge.unary(models, "ListModels", model_pb2.ListModelsRequest, directory.list_models, Scope.MODELS),
                "GetModel": edge.unary(models, "GetModel", model_pb2.GetModelRequest, directory.get_model, Scope.MODELS),
            },
        ),
    ]
