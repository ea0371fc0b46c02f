"""The tiny model, calibrated on counts with a daily rhythm, and such counts."""

from dataclasses import replace

import numpy as np

from mods_grpc.detection import calibrate
from tests.support.models.tiny import ROWS, SLIDE, forecast_mean, make_manifest, publish_tiny

DAY_ROWS = 144
START_NS = 1_772_409_600 * 10**9  # 2026-03-02T00:00:00Z


def make_counts(count, seed, first=0):
    """Return counts of connections and bytes, `(count, 2)`, with a rhythm of a day and noise that lasts some windows."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(0.0, 0.12, (count + 5, 2))
    noise = np.stack([np.convolve(column, np.full(6, 6**-0.5), "valid") for column in noise.T], axis=1)
    phase = 2 * np.pi * (first + np.arange(count)) / DAY_ROWS
    rhythm = 1 + 0.4 * np.sin(phase)
    return np.round(np.stack([300 * rhythm, 9_000 * rhythm], axis=1) * np.exp(noise))


def publish_rhythm(repository, *, version=1, days=20, factor=1.0, offset=0.0):
    """Publish a version of the model; that of another level has another factor and offset."""
    values = make_counts(days * DAY_ROWS, 1) * factor + offset
    calibration = calibrate(
        forecast_mean,
        START_NS + np.arange(len(values)) * SLIDE * 10**9,
        values,
        training=slice(0, len(values) // 2),
        calibration=slice(0, len(values)),
        kinds=["count", "sum"],
        rows=ROWS,
        slide_seconds=SLIDE,
        holdoff_rows=6,
    )
    features = tuple(
        replace(feature, training_minimum=float(column.min()), training_maximum=float(column.max()))
        for feature, column in zip(make_manifest().features, values.T, strict=True)
    )
    publish_tiny(repository, version=version, calibration=calibration, features=features)
