"""Simulated network traffic with labelled events, as aggregates and as Zeek logs."""
