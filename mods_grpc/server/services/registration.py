"""Handlers of the two services of the protocol, as gRPC registers them."""

import grpc

from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.rpc.boundary import RpcBoundary
from mods_grpc.server.security.authentication import Scope
from mods_grpc.server.services.detect import DetectServicer
from mods_grpc.server.services.forecast import ForecastServicer
from mods_grpc.server.services.model_directory import ModelDirectory
from mods_grpc.server.streaming.registry import StreamRegistry
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import model_pb2

INFERENCE_SERVICE = "mods.v1.InferenceService"
MODEL_SERVICE = "mods.v1.ModelService"


def make_handlers(
    repository: Repository, config: ServerConfig, streams: StreamRegistry, boundary: RpcBoundary
) -> list[grpc.GenericRpcHandler]:
    """Make the handlers of InferenceService and ModelService."""
    forecast, detect = ForecastServicer(repository, config), DetectServicer(repository, config)
    directory, unary = ModelDirectory(repository), boundary.make_unary_handler
    inference_handlers = {
        "Forecast": unary(
            INFERENCE_SERVICE,
            "Forecast",
            pb.ForecastRequest,
            forecast.forecast,
            estimate_seconds=forecast.estimate_seconds,
            respond_batched=forecast.forecast_batched,
            bind_caller=forecast.bind_caller,
        ),
        "Detect": unary(INFERENCE_SERVICE, "Detect", pb.DetectRequest, detect.detect, estimate_seconds=detect.estimate_seconds),
        "StreamDetect": boundary.make_stream_handler(INFERENCE_SERVICE, "StreamDetect", streams.detect),
    }
    model_handlers = {
        "ListModels": unary(MODEL_SERVICE, "ListModels", model_pb2.ListModelsRequest, directory.list_models, Scope.MODELS),
        "GetModel": unary(MODEL_SERVICE, "GetModel", model_pb2.GetModelRequest, directory.get_model, Scope.MODELS),
    }
    return [
        grpc.method_handlers_generic_handler(INFERENCE_SERVICE, inference_handlers),
        grpc.method_handlers_generic_handler(MODEL_SERVICE, model_handlers),
    ]
