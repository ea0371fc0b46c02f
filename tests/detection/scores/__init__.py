"""Tests of mods_grpc.detection.scores."""
