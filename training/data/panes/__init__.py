"""Panes: what was counted in the last slide of each window alone, of which overlapping windows are made."""
