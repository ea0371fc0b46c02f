"""Stubs generated from protos/mods_grpc/v1 by `make protos`. Never edited."""
