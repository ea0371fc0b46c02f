"""Fit forecasting models on network aggregates and export them for the server. Run as `python -m training`."""
