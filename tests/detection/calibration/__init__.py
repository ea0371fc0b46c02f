"""Tests of mods_grpc.detection.calibration."""
