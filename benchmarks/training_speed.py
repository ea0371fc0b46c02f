"""Time of a steady LSTM epoch as `training fit` runs it, beside Keras' defaults, in one interleaved run.

Both fit the same network on the same windows (4,400 by default, batch 256). The default is `compile` and `fit` on arrays with
nothing else said; ours gathers whole batches, runs many steps in one call and compiles with XLA. What each of these
brings alone is shown too. Rounds of all cases are interleaved, so read the ratios: the machine may do other things.

Usage: python benchmarks/training_speed.py [--model-type LSTM] [--batch-size 256] [--rounds 15] [--json FILE]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from training.architectures import build
from training.backend import keras
from training.batches import Batches
from training.config import MODEL_TYPES, ModelConfig
from training.fit import STEPS_AT_ONCE


class Case:
    """A compiled network that fits one epoch at a time, and the times it took."""

    def __init__(self, name, config, options, windows, targets, *, compiled, steps_at_once, gathered):
        self.name = name
        keras.utils.set_random_seed(1)
        self.network = build(config, windows.shape[2])
        steps = len(windows) // options.batch_size
        self.network.compile(
            optimizer=keras.optimizers.Adam(1e-3),
            loss="mae",
            steps_per_execution=min(steps_at_once, steps),
            jit_compile=compiled,
        )
        self.arguments = {"x": windows, "y": targets, "batch_size": options.batch_size, "verbose": 0}
        self.epochs = options.epochs
        self.callbacks = []
        if gathered:
            batches = Batches(windows, targets, options.batch_size, seed=1)
            self.arguments = {"x": batches.dataset(), "shuffle": False, "verbose": 0}
            self.callbacks = [batches]
        self.times = []

    def run(self):
        """Fit a few epochs and keep the time of all but the first, which begins anew."""
        ends = []
        mark = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
        start = time.perf_counter()
        self.network.fit(**self.arguments, epochs=self.epochs, callbacks=[*self.callbacks, mark])
        if not self.times:
            self.first = ends[0] - start
        self.times += np.diff(ends).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-type", default="LSTM", choices=MODEL_TYPES)
    parser.add_argument("--rows", type=int, default=4400)
    parser.add_argument("--sequence-len", type=int, default=12)
    parser.add_argument("--features", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5, help="of a round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    config = ModelConfig(model_type=options.model_type, sequence_len=options.sequence_len)
    random = np.random.default_rng(1)
    windows = random.normal(size=(options.rows, options.sequence_len, options.features)).astype(np.float32)
    targets = random.normal(size=(options.rows, config.steps_ahead, options.features)).astype(np.float32)
    variants = {
        "Keras' defaults": {"compiled": "auto", "steps_at_once": 1, "gathered": False},
        "batches gathered": {"compiled": False, "steps_at_once": 1, "gathered": True},
        "and many steps a call": {"compiled": False, "steps_at_once": STEPS_AT_ONCE, "gathered": True},
        "and XLA (fit, when long)": {"compiled": True, "steps_at_once": STEPS_AT_ONCE, "gathered": True},
    }
    cases = [Case(name, config, options, windows, targets, **variant) for name, variant in variants.items()]
    for number in range(options.rounds + 1):
        for case in cases:
            case.run()
            if number == 0:
                case.times = [float("nan")]  # the first round compiles
    print(f"{options.model_type}, {options.rows} windows, batch {options.batch_size}, {options.rounds} rounds")
    print(f"{'case':26s} {'median ms':>10s} {'best ms':>8s} {'first epoch s':>14s} {'times faster':>13s}")
    told = {}
    for case in cases:
        times = case.times[1:]
        middle, best = 1000 * statistics.median(times), 1000 * min(times)
        faster = statistics.median(np.array(cases[0].times[1:]) / np.array(times))
        told[case.name] = {"median_ms": middle, "best_ms": best, "first_epoch_s": case.first, "times_faster": faster}
        print(f"{case.name:26s} {middle:10.1f} {best:8.1f} {case.first:14.1f} {faster:13.2f}")
    if options.json:
        Path(options.json).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
