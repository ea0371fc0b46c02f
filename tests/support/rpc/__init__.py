"""gRPC on both sides of a test: a client of the server, a scripted server for the client, and a name server."""
