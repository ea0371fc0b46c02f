"""The anchor of a comparison: LightGBM with as many trees as it wants, one model per feature and step, refitted with them.

It is no model type: a forecast of it takes longer than a server has. What is exported should come near to it.
"""

import numpy as np

from mods_grpc.array_types import Floats, Integers
from mods_grpc.data.units import DAY_SECONDS
from training.data.gaps import forward_fill
from training.data.series import Series
from training.data.windows import Samples
from training.evaluation.baselines import Baseline

LAGS = 36
MAX_INPUTS = 600
MAX_ROUNDS = 5000
PATIENCE_ROUNDS = 50
PARAMETERS = {
    "objective": "l1",
    "learning_rate": 0.06,
    "num_leaves": 31,
    "min_data_in_leaf": 40,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.5,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "verbose": -1,
}


def fit_lightgbm(series: Series, train: Samples, validation: Samples, *, seed: int = 1) -> Baseline:
    """Fit LightGBM with the L1 loss on the last differences, the level, the same time yesterday and the clock.

    Values are log1p if no training value is negative; targets are changes since the last row. The number of trees is that of the
    lowest validation loss, with which each model is fitted again on training and validation samples together.

    Args:
        series: The series that the samples are from.
        train: Samples to fit.
        validation: Samples to choose the number of trees on, and to fit again.
        seed: Seed of the samples and inputs of each tree.
    """
    import lightgbm  # noqa: PLC0415  # LightGBM takes seconds to load

    horizon, features = train.targets.shape[1:]
    lags = min(LAGS, max(1, MAX_INPUTS // features))
    logarithmic = (train.windows.min(axis=(0, 1)) >= 0) & (train.targets.min(axis=(0, 1)) >= 0)

    def forward(values: Floats) -> Floats:
        return np.where(logarithmic, np.log1p(np.maximum(values, 0.0)), values)

    def inputs(source: Series, origins: Integers, step: int) -> tuple[Floats, Floats]:
        z = forward(forward_fill(source.values))
        rows = np.maximum(origins[:, None] + np.arange(-lags - 1, 0), 0)
        seen, last = z[rows], z[origins - 1]
        day = max(1, DAY_SECONDS // source.slide_seconds)
        yesterday = z[np.maximum(origins + step - 1 - day * -(-step // day), 0)] - last
        seconds = source.times[origins].astype("datetime64[s]").astype(np.int64)
        of_day = seconds % DAY_SECONDS
        angle = 2 * np.pi * of_day / DAY_SECONDS
        clock = np.stack([np.sin(angle), np.cos(angle), of_day, seconds // DAY_SECONDS % 7, seconds % 3600], axis=1)
        return np.concatenate([np.diff(seen, axis=1).reshape(len(origins), -1), last, yesterday, clock], axis=1), last

    models: dict[tuple[int, int], lightgbm.Booster] = {}
    for step in range(1, horizon + 1):
        parts = [(*inputs(series, part.origins, step), forward(part.targets[:, step - 1])) for part in (train, validation)]
        for feature in range(features):
            (x, y), (x_checked, y_checked) = ((x, z[:, feature] - last[:, feature]) for x, last, z in parts)
            parameters = {**PARAMETERS, "seed": (seed + step * features + feature) % 2**31}
            data = lightgbm.Dataset(x, y)
            selected = lightgbm.train(
                parameters,
                data,
                num_boost_round=MAX_ROUNDS,
                valid_sets=[lightgbm.Dataset(x_checked, y_checked, reference=data)],
                callbacks=[lightgbm.early_stopping(PATIENCE_ROUNDS, verbose=False)],
            )
            everything = lightgbm.Dataset(np.concatenate([x, x_checked]), np.concatenate([y, y_checked]))
            models[step, feature] = lightgbm.train(parameters, everything, num_boost_round=max(1, selected.best_iteration))

    def forecast(source: Series, origins: Integers) -> Floats:
        paths = np.empty((len(origins), horizon, features))
        for step in range(1, horizon + 1):
            x, last = inputs(source, origins, step)
            changes = [np.asarray(models[step, feature].predict(x, num_threads=1)) for feature in range(features)]
            paths[:, step - 1] = last + np.stack(changes, axis=1)
        return np.where(logarithmic, np.expm1(np.minimum(paths, 700.0)).clip(0.0), paths)

    trees = [model.num_trees() for model in models.values()]
    return Baseline(name="LightGBM", detail=f"{min(trees)} to {max(trees)} trees", forecast=forecast)
