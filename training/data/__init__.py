"""Data of a training run: reading, repairing and splitting it, and cutting it into windows."""
