"""Tests of mods_grpc.server.models."""
