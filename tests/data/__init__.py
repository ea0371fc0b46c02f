"""Tests of mods_grpc.data."""
