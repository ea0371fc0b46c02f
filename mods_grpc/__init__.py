"""Forecasts of network-monitoring time series and calibrated verdicts on what departs from them, over gRPC."""

__version__ = "0.1.0"
