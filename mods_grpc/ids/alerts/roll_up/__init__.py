"""Rolls up the alerts of one cause in many series."""
