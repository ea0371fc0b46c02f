"""Tests of mods_grpc.ids.health."""
