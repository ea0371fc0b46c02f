"""Tests of mods_grpc.ids.sources."""
