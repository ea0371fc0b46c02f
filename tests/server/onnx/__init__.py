"""Tests of mods_grpc.server.onnx."""
