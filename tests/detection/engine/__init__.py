"""Tests of mods_grpc.detection.engine."""
