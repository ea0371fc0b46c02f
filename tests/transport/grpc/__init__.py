"""Tests of mods_grpc.transport.grpc."""
