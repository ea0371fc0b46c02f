"""From p-values to alarms: levels, the drift flag, episodes and the reason in words."""
