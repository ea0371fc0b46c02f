"""Tests of the places that alerts go to."""
