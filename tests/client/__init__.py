"""Tests of mods_grpc.client."""
