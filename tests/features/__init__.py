"""Tests of mods_grpc.features."""
