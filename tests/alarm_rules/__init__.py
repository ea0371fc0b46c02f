"""Tests of mods_grpc.alarm_rules."""
