"""The state file that carries the series over a restart."""
