"""Tests of mods_grpc.server.persistence."""
