"""The gRPC server. `app` puts it together; `inference` and `stream` hold what it does, free of transport."""
