"""Tests of mods_grpc.transport.http2."""
