"""Tests of mods_grpc.transport.header_compression."""
