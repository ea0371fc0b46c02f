"""Third-party gRPC and HTTP/2 clients in other languages go through one list of scenarios, and lose no call."""
