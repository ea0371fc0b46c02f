"""Tests of mods_grpc.artifact."""
