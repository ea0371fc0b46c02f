"""Parsers that turn one line of a Zeek or Suricata log into a record, or reject it with a reason."""
