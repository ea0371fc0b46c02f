"""Tests of mods_grpc.server.rpc."""
