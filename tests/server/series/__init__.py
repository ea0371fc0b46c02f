"""Tests of mods_grpc.server.series."""
