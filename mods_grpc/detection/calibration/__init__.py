"""Calibration: makes the detector's part of a manifest from observations and forecasts."""
