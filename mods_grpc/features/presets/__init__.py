"""The columns in words, and the choices of them that models are meant for."""

from mods_grpc.features.presets.choices import PRESETS, Preset, find_preset

__all__ = ["PRESETS", "Preset", "find_preset"]
