"""Tests of mods_grpc.server.net."""
