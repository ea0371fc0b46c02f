"""Evaluation of forecasts and alerts: metrics, baselines, intervals, and a replay through the server's detector."""
