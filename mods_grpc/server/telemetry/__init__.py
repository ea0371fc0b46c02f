"""The Prometheus metrics of calls, model runs and observations."""
