"""Tests of mods_grpc.ids.alerts.sentences."""
