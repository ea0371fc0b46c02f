"""gRPC on HTTP/2 streams: message framing, call contexts, routing to handlers, and the server with the surface of grpc.aio."""
