"""Random and damaged logs, names and flags through every way in: `python -m tests.fuzz --minutes 60 --seed 1`."""
