"""A gRPC server over HTTP/2 on asyncio, written for many small messages."""
