"""alarm_rules."""
