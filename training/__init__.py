"""Fits forecasting models on network aggregates and exports them for the server."""
