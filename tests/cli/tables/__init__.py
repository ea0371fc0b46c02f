"""Tests of the tables that commands read."""
