"""Zeek and Suricata logs in, alerts out."""
