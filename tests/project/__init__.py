"""Tests of the project as a whole: its structure, its pages, its examples."""
