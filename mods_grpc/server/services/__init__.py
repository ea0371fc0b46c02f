"""The RPCs of the server: inference, models, health and reflection."""
