"""Server reflection, v1 and v1alpha, so that grpcurl and buf curl need no .proto files."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from mods_grpc.errors import ModsError
from mods_grpc.server.rpc.boundary import RpcBoundary
from mods_grpc.server.rpc.outcome import Context, abort
from mods_grpc.server.rpc.third_party import with_request_parsing
from mods_grpc.server.security.authentication import Scope
from mods_grpc.server.services.registration import INFERENCE_SERVICE, MODEL_SERVICE

REFLECTION_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def make_reflection_handlers(boundary: RpcBoundary) -> list[grpc.GenericRpcHandler]:
    """Make the handlers of both versions. grpcio ships v1alpha only, whose messages are the same on the wire."""
    services = (INFERENCE_SERVICE, MODEL_SERVICE, "grpc.health.v1.Health", *REFLECTION_SERVICES)
    servicer = ReflectionServicer(services, pool=_pool_with_reflection_v1())

    async def answer(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        try:
            boundary.authenticator.authenticate(context, Scope.MODELS)
        except ModsError as error:
            await abort(context, error)
        async for response in servicer.ServerReflectionInfo(requests, context):
            yield response

    handler = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": with_request_parsing(handler)}
    return [grpc.method_handlers_generic_handler(name, methods) for name in REFLECTION_SERVICES]


def _pool_with_reflection_v1() -> descriptor_pool.DescriptorPool:
    """Return a pool that describes v1 of reflection too, for clients that list all methods."""
    pool = descriptor_pool.Default()
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", "grpc.reflection.v1"
    fields = [field for message in file.message_type for field in message.field if field.type_name]
    methods = [method for service in file.service for method in service.method]
    for field in fields:
        field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for method in methods:
        method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
        method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    pool.AddSerializedFile(file.SerializeToString())
    return pool
