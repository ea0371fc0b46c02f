"""gRPC on both sides of a test: a client of the server, and a scripted server for the client."""
