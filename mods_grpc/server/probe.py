"""A health check for containers without a shell: `python -m mods_grpc.server.probe [ADDRESS] [SERVICE]` exits with 0 or 1.

Orchestrators that support gRPC health checks do not need it.
"""

import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

DEFAULT_ADDRESS, DEFAULT_SERVICE = "127.0.0.1:50052", "readiness"
TIMEOUT_SECONDS = 3.0


def main(arguments: Sequence[str]) -> int:
    """Query the health of a server, print it, and return 0 if it is SERVING, else 1."""
    address, service = [*arguments, *(DEFAULT_ADDRESS, DEFAULT_SERVICE)[len(arguments) :]][:2]
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        with grpc.insecure_channel(address) as channel:
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_SECONDS).status
    except grpc.RpcError as error:
        sys.stdout.write(f"{service}: {error.code().name}\n")
        return 1
    sys.stdout.write(f"{service}: {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}\n")
    return 0 if status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
