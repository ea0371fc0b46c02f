"""Tests of mods_grpc.ids.bulk."""
