"""Time of a steady LSTM epoch in `training fit` and with Keras' defaults, in one interleaved run.

Both fit the same network on the same windows (4,400 by default, batch 256). The default is `compile` and `fit` on arrays with
nothing else said; ours runs many steps in one call, which XLA compiles. What each of these brings alone is shown too, and
what Keras' own way to both, `steps_per_execution` and `jit_compile`, brings. Rounds of all cases are interleaved, so read
the ratios: the machine may do other things. Processor time, over all threads, is reported besides wall-clock time.

Usage: python benchmarks/training/epoch_speed.py [--model-type LSTM] [--batch-size 256] [--rounds 15] [--json FILE]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from training.fitting.batches import Batches
from training.network.architectures import build
from training.network.backend import keras
from training.network.config import MODEL_TYPES, ModelConfig


class Case:
    """A compiled network that fits one epoch at a time, and the times it took."""

    def __init__(self, name, config, options, windows, targets, *, compiled, at_once, ours):
        self.name = name
        keras.utils.set_random_seed(1)
        self.network = build(config, windows.shape[2])
        steps = len(windows) // options.batch_size if at_once else 1
        self.network.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mae", steps_per_execution=steps, jit_compile=compiled)
        self.arguments = {"x": windows, "y": targets, "batch_size": options.batch_size, "verbose": 0}
        self.epochs = options.epochs
        self.callbacks = []
        if ours:
            batches = Batches(windows, targets, options.batch_size, seed=1)
            self.network.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mae")
            self.network.train_function = batches.train_function(self.network, compiled=compiled)
            self.arguments = {"x": batches.dataset(), "shuffle": False, "verbose": 0}
            self.callbacks = [batches]
        self.first, self.times = None, []

    def run(self):
        """Fit a few epochs and keep the times of all but the first, which begins anew, and of none of the first round."""
        ends = [(time.perf_counter(), time.process_time())]
        mark = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append((time.perf_counter(), time.process_time())))
        self.network.fit(**self.arguments, epochs=self.epochs, callbacks=[*self.callbacks, mark])
        took = np.diff(ends, axis=0)
        if self.first is None:
            self.first = took[0, 0]
        else:
            self.times += took[1:].tolist()


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
    keras_own, ours = {"ours": False}, {"ours": True, "at_once": True}
    variants = {
        "Keras' defaults": {**keras_own, "compiled": "auto", "at_once": False},
        "Keras, steps_per_execution and XLA": {**keras_own, "compiled": True, "at_once": True},
        "many steps a call (fit, when short)": {**ours, "compiled": False},
        "and XLA (fit, when long)": {**ours, "compiled": True},
    }
    cases = [Case(name, config, options, windows, targets, **variant) for name, variant in variants.items()]
    for _ in range(options.rounds + 1):
        for case in cases:
            case.run()
    print(f"{options.model_type}, {options.rows} windows, batch {options.batch_size}, {options.rounds} rounds")
    header = f"{'case':36s} {'median ms':>10s} {'best ms':>8s} {'CPU ms':>7s} {'first epoch s':>14s}"
    print(f"{header} {'times faster':>13s} {'best':>6s} {'less CPU':>9s}")
    results = {}
    default = np.array(cases[0].times)
    for case in cases:
        times = np.array(case.times)
        wall, cpu = np.median(times, axis=0)
        best = times[:, 0].min()
        faster, less = np.median(default, axis=0) / (wall, cpu)
        results[case.name] = {
            "median_ms": 1e3 * wall, "best_ms": 1e3 * best, "cpu_ms": 1e3 * cpu, "first_epoch_s": case.first,
            "times_faster": faster, "times_less_cpu": less,
        }  # fmt: skip
        ratios = f"{faster:13.2f} {default[:, 0].min() / best:6.2f} {less:9.2f}"
        print(f"{case.name:36s} {1e3 * wall:10.1f} {1e3 * best:8.1f} {1e3 * cpu:7.1f} {case.first:14.1f} {ratios}")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
