"""Tests of mods_grpc.protobuf."""
