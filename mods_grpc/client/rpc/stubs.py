"""The generated stubs of the services, on a channel."""

import grpc

from mods_grpc.v1.inference_pb2_grpc import InferenceServiceStub
from mods_grpc.v1.model_pb2_grpc import ModelServiceStub


def make_inference_stub(channel: grpc.Channel) -> InferenceServiceStub:
    """Return the stub of the service that forecasts and detects."""
    return InferenceServiceStub(channel)


def make_model_stub(channel: grpc.Channel) -> ModelServiceStub:
    """Return the stub of the service that describes models."""
    return ModelServiceStub(channel)
