"""Tests of mods_grpc.cli.review."""
