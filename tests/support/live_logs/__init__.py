"""Live logs: their writers, and how they are named and rotated."""
