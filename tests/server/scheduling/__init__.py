"""Tests of mods_grpc.server.scheduling."""
