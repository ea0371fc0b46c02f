"""Tests of mods_grpc.server.security."""
