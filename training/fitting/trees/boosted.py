"""Fitting of `boosted` models: a small network, then trees on what a share of it leaves out of sample.

Nothing is chosen on the validation range, so that a short one can't mislead: the network runs all epochs, and the trees are as
many as the options say, the same for every feature. What depends on the data is chosen in blocks of the training range.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from mods_grpc.array_types import Bools, Floats, Integers, Singles
from training.fitting.scaled import ScaledSamples, path_bias
from training.fitting.trees.boosting import CHUNK_ROWS, Task, boost, slot_profile
from training.network.architectures import boosted as architecture
from training.network.backend import keras, tf
from training.network.boosted_layers import CLOCK_NUMBERS, SeedPaths, WeekSlot, count_rows, week_table
from training.network.calendar import DAY_SLOTS, SLOT_CHANNEL
from training.network.config import FitConfig, ModelConfig
from training.network.forest import evaluate_forest, join_forests, round_leaves
from training.network.layers import PARTS

WEIGHT_DECAY = 1e-4
FOLDS = 4
FOLD_SEEDS = 2
BLOCK_SAMPLES = 432
"""Samples in a row that are in the same fold: three days at a slide of ten minutes."""
SHARE, SMALL_SHARE = 0.5, 0.25
"""Share of the network in the forecast of a feature, with a profile of the day and without."""
MIN_PROFILE_GAIN = 0.1
"""How much lower the error out of sample is at least with a profile of the day."""
OTHER_LAGS = 8
OTHER_MEANS = 12
"""Of other features the trees see fewer lags, the mean of as many rows and that of all."""


def fit_boosted(network: Any, config: ModelConfig, options: FitConfig, train: ScaledSamples, validation: ScaledSamples) -> None:
    """Set the weights and the forest of a boosted network.

    Args:
        network: Built by `architectures.boosted`.
        config: Options of the network.
        options: Options of fitting.
        train: Samples to fit.
        validation: Samples to take the distances of quantiles from.
    """
    _, steps, features = train.targets.shape
    folds = assign_folds(len(train.targets))
    differenced = np.ones(features) if config.transform == "level" or not config.model_delta else np.zeros(features)
    if train.has_panes is not None:
        differenced = np.where(train.has_panes, 0.0, differenced)
    inner = network.get_layer(PARTS)
    inner.get_layer(architecture.EXTRACT).set_weights([differenced])
    has_profile = np.zeros(features, np.bool_)
    if config.calendar:
        has_profile = gains_from_profile(train, folds)
        profiles = slot_profile(train, train.targets.astype(np.float64)).reshape(DAY_SLOTS, steps, features) * has_profile
        inner.get_layer(architecture.TABLE).set_weights([week_table(profiles.reshape(DAY_SLOTS, -1))])
    columns = _columns(inner, train)
    scaling, hidden, seeds = (inner.get_layer(name) for name in (architecture.SCALING, architecture.HIDDEN, architecture.SEEDS))
    scaling.set_weights(robust_scaling(columns))
    scaled = np.asarray(scaling(columns))
    weights = train.weights / train.weights.mean(axis=0)
    descend_paths(hidden, seeds, options, scaled, train.targets, weights, seed=options.seed)
    share = np.where(has_profile, SHARE, SMALL_SHARE)
    seeds.share.assign(share)
    targets = train.targets - share * _forecast_out_of_fold(config, options, scaled, train.targets, weights, folds)
    counts = np.maximum(config.trees * (share / share.sum() + 1.0 / features) / 2, 1).astype(np.int64)
    forests = []
    for feature in range(features):
        task = Task(columns=columns, targets=targets[:, :, feature].astype(np.float64), weights=train.weights[:, feature])
        first = Task(columns=columns[:1], targets=task.targets[:1], weights=task.weights[:1])
        inputs = candidates(config, features, feature)
        course = boost([task, first], inputs, config, options, seed=options.seed + feature, limit=counts[feature], fixed=True)
        forests.append(replace(join_forests(course.trees), target=np.full(len(course.trees), feature)))
    joined = join_forests(forests)
    forest = replace(joined, value=round_leaves(joined.value, joined.root, joined.target))
    inner.get_layer(architecture.FOREST).forest = forest
    bias = np.zeros((steps, features))
    residuals = np.zeros_like(validation.targets)
    if config.levels:
        seen = _columns(inner, validation)
        checked = scaling(seen)
        paths = np.asarray(seeds([hidden(checked, training=False), checked]))
        residuals = validation.targets - paths - evaluate_forest(seen, features, forest)
    inner.get_layer(architecture.PATH).set_weights([path_bias(bias, residuals, config)])


def descend_paths(
    hidden: Any, outputs: SeedPaths, options: FitConfig, columns: Singles, targets: Singles, weights: Floats, *, seed: int
) -> None:
    """Fit networks to the weighted absolute error; with `averaging` they get the moving averages of their weights.

    AdamW with a learning rate that falls to 0 along a cosine (Loshchilov & Hutter 2017, 2019).

    Args:
        hidden: Their hidden layers.
        outputs: What makes paths of hidden units and columns.
        options: Options of fitting; all epochs are run.
        columns: Its inputs, `(n, width)`.
        targets: `(n, steps, features)`.
        weights: `(n, features)`.
        seed: Seed of the order of batches.
    """
    count = len(columns)
    batch = min(options.batch_size, count)
    steps = count // batch
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps * options.epochs)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
    variables = [*hidden.trainable_variables, *outputs.trainable_variables]
    optimizer.build(variables)
    averages = [tf.Variable(variable) for variable in variables] if options.averaging else []
    arrays = (
        tf.constant(columns),
        tf.constant(targets[:, np.newaxis]),
        tf.constant(weights[:, np.newaxis, np.newaxis].astype(np.float32)),
    )

    def one_step(number: Any, rows: Any, first: Any) -> tuple[Any, Any, Any]:
        x, y, weight = (tf.gather(array, rows[number]) for array in arrays)
        with tf.GradientTape() as tape:
            paths = outputs.of_seeds(hidden(x, training=True), x)
            loss = tf.reduce_sum(tf.reduce_mean(tf.abs(paths - y) * weight, axis=(0, 2)))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        position = tf.cast(first + number, tf.float32)
        momentum = tf.minimum(options.averaging, position / (position + 10.0))
        for average, variable in zip(averages, variables, strict=bool(averages)):
            average.assign(average * momentum + tf.convert_to_tensor(variable) * (1.0 - momentum))
        return number + 1, rows, first

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def one_epoch(rows: Any, first: Any) -> None:
        tf.while_loop(lambda number, *_: number < steps, one_step, (tf.constant(0), rows, first), parallel_iterations=1)

    random = np.random.default_rng(seed)
    for epoch in range(options.epochs):
        order = random.permutation(count)[: steps * batch].reshape(steps, batch)
        one_epoch(tf.constant(order), tf.constant(epoch * steps))
    for average, variable in zip(averages, variables, strict=bool(averages)):
        variable.assign(average)


def assign_folds(samples: int) -> Integers:
    """Return the fold of each sample, `(samples,)`: blocks of consecutive ones by turns, shorter where there are few."""
    block = max(1, min(BLOCK_SAMPLES, samples // (2 * FOLDS)))
    return np.arange(samples) // block % FOLDS


def gains_from_profile(samples: ScaledSamples, folds: Integers) -> Bools:
    """Return of which features the slot of the day, as other folds have it, tells more of the change than one number.

    The result is `(features,)`.
    """
    errors = np.zeros((2, *samples.targets.shape[1:]))
    slots = slots_of(samples)
    for fold in np.unique(folds):
        inside, outside = folds == fold, folds != fold
        if not outside.any():
            return np.zeros(samples.targets.shape[2], np.bool_)
        rest = replace(samples, inputs=samples.inputs[outside], targets=samples.targets[outside])
        table = slot_profile(rest, rest.targets.astype(np.float64)).reshape(DAY_SLOTS, *samples.targets.shape[1:])
        constant = np.median(rest.targets, axis=0)
        for number, forecast in enumerate((constant, table[slots[inside]])):
            missed = np.abs(samples.targets[inside] - forecast) * samples.weights[inside][:, np.newaxis]
            errors[number] += missed.sum(axis=0)
    gain = 1.0 - np.exp(np.log((errors[1] + 1e-12) / (errors[0] + 1e-12)).mean(axis=0))
    return np.asarray(gain >= MIN_PROFILE_GAIN)


def slots_of(samples: ScaledSamples) -> Integers:
    """Return the slot of the day of each sample."""
    return samples.inputs[:, -1, samples.targets.shape[2] + SLOT_CHANNEL].astype(np.int64)


def robust_scaling(columns: Singles) -> tuple[Singles, Singles]:
    """Return scale and shift of each column: about the median, and by a size that few large values do not rule."""
    center = np.median(columns, axis=0)
    spread = columns.std(axis=0, dtype=np.float64)
    quartile = np.percentile(np.abs(columns - center), 75, axis=0)
    size = np.minimum(spread, 3.0 * quartile + 0.15 * spread)
    scale = 1.0 / np.where(size > 1e-6, size, 1.0)
    return scale.astype(np.float32), (-center * scale).astype(np.float32)


def candidates(config: ModelConfig, features: int, feature: int) -> Integers:
    """Return the numbers of the columns that the trees of a feature may split at; see `boosted_layers.WindowExtract`."""
    lags, oldest, means = count_rows(config.sequence_len - config.level, config.steps_ahead)
    rows = lags + oldest + len(means) + config.level
    of_others = [lags - back for back in range(1, min(OTHER_LAGS, lags) + 1)]
    of_others += [lags + oldest + index for index, each in enumerate(means) if each in (OTHER_MEANS, means[-1])]
    of_others += [rows - 1] if config.level else []
    chosen = [row * features + other for other in range(features) if other != feature for row in of_others]
    chosen += [row * features + feature for row in range(rows)]
    if config.calendar:
        start, profiles = rows * features, config.steps_ahead * features
        chosen += range(start + feature, start + profiles, features)
        chosen += range(start + profiles, start + profiles + CLOCK_NUMBERS)
    return np.array(sorted(chosen))


def _columns(inner: Any, samples: ScaledSamples) -> Singles:
    """Return what network and forest see of samples."""
    features = samples.targets.shape[2]
    seen = keras.Model(inner.input, inner.get_layer(architecture.FOREST).input)
    chunks = []
    for start in range(0, len(samples.inputs), CHUNK_ROWS):
        inputs = samples.inputs[start : start + CHUNK_ROWS]
        parts = [tf.constant(inputs[:, :, :features])]
        if len(inner.inputs) > 1:
            parts.append(WeekSlot()(inputs[:, -1, features:]))
        chunks.append(np.asarray(seen(parts)))
    return np.concatenate(chunks)


def _forecast_out_of_fold(
    config: ModelConfig, options: FitConfig, columns: Singles, targets: Singles, weights: Floats, folds: Integers
) -> Singles:
    """Return forecasts `(n, steps, features)` of networks that have not seen the fold of the sample."""
    smaller = replace(config, seeds=min(FOLD_SEEDS, config.seeds))
    features = targets.shape[2]
    forecasts = np.zeros_like(targets)
    for fold in np.unique(folds):
        inside, outside = folds == fold, folds != fold
        if not outside.any():
            continue
        hidden, outputs = architecture.build_body(smaller, columns.shape[1], features)
        seed = options.seed + 1 + int(fold)
        descend_paths(hidden, outputs, options, columns[outside], targets[outside], weights[outside], seed=seed)
        paths = outputs.of_seeds(hidden(columns[inside], training=False), columns[inside])
        forecasts[inside] = np.asarray(paths).mean(axis=1)
    return forecasts
