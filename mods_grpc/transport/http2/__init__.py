"""The HTTP/2 engine of the server: connections, streams, flow control and abuse limits (RFC 9113), without gRPC."""
