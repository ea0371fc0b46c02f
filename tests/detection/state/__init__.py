"""Tests of mods_grpc.detection.state."""
