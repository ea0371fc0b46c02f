"""gRPC over HTTP/2 as an asyncio protocol, written for servers of small messages: framing, flow control, gRPC, TLS."""
