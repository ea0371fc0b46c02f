"""What surrounds every RPC: the boundary with its limits, error statuses, tracing, and third-party services."""
