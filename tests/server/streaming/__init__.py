"""Tests of mods_grpc.server.streaming."""
