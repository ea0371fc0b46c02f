"""The gRPC server of forecasts, detection and models."""
