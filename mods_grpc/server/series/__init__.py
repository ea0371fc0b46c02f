"""The series of a model version: slots, batches of rows, prefetch, replay cache and snapshots."""
