"""Tests of mods_grpc.cli.alerts."""
