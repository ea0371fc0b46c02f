"""Tests of mods_grpc.ids.watch."""
