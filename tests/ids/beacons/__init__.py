"""Tests of the ranking of beacons."""
