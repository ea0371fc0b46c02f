"""Tests of mods_grpc.server.codec."""
