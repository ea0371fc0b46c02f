"""Conversions between protobuf primitives and numpy arrays, and the wire format of fields, for client and server."""
