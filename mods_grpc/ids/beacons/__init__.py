"""Beacons: how regularly own hosts contact a destination, ranked for the young and rare ones."""
