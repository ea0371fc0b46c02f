"""Tests of mods_grpc.server.services."""
