"""Tests of mods_grpc.server.telemetry."""
