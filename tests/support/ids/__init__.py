"""Logs, alerts and live traffic for tests of the log side."""
