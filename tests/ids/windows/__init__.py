"""Tests of mods_grpc.ids.windows."""
