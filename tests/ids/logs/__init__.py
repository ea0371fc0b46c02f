"""Tests of mods_grpc.ids.logs."""
