"""Tests of mods_grpc.detection.decision."""
