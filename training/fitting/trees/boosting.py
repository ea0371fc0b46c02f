"""Gradient boosting of trees whose leaves hold a path of steps ahead, as many trees as the validation range asks for.

LightGBM grows each tree on the gradient of the absolute error of one step: of the next step every second time, else of another
one drawn at random. The leaves then hold the weighted median of what is left at every step, the best that a leaf can add.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightgbm
import numpy as np

from mods_grpc.array_types import Floats, Integers, Singles
from training.fitting.ridge import predict_ridge, solve_ridge
from training.fitting.scaled import ScaledSamples, path_bias
from training.network.architectures import trees as architecture
from training.network.backend import keras
from training.network.calendar import DAY_SLOTS, SLOT_CHANNEL
from training.network.config import FitConfig, ModelConfig
from training.network.forest import Forest, evaluate_forest, find_leaves, join_forests, round_leaves, round_thresholds
from training.network.tree_layers import BLOCKS

PATIENCE_TREES = 25
"""Trees without a lower validation error after which no more are added."""
CHUNK_ROWS = 4096
OWN_LAGS, OTHER_LAGS = 36, 8
"""Last steps of which single values are inputs: of the feature itself and of others."""
SUMMED_ROWS = (2, 3, 6, 9, 12, 18, 24, 36, 48, 72, 144)
"""Numbers of last rows whose means are inputs."""
OLDEST_LAGS = 18
"""Of the feature itself the oldest rows are inputs too: in a window of a day they hold what followed at this time yesterday."""
MIN_SLOT_SAMPLES = 8
LAST_STEP_TICKETS = 1
"""How much more often the last step is drawn than another."""
PILOT_TREES = 40
"""Trees of each feature that decide whether it gains from the profile of the day."""
EXCESS = 2
"""A feature gets at most as many times the trees of an equal share."""
ALLOCATED = 10
SUBSAMPLE = 0.8
MIN_LEAF_SAMPLES = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What the trees of a feature are fitted to: columns `(n, inputs)`, residuals `(n, steps)` and weights `(n,)`."""

    columns: Singles
    targets: Floats
    weights: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """The trees of a feature, and the validation error after each of them."""

    trees: list[Forest]
    errors: list[float]


def fit_trees(
    network: Any,
    config: ModelConfig,
    options: FitConfig,
    train: ScaledSamples,
    validation: ScaledSamples,
    *,
    counts: Sequence[int] | None = None,
) -> list[int]:
    """Set the forest of a network of trees, and return the number of trees of each feature, below 0 if they see no profile.

    Args:
        network: Built by `architectures.trees`.
        config: Options of the network.
        options: Options of fitting.
        train: Samples to fit.
        validation: Samples for early stopping, and to take the distances of quantiles from.
        counts: The result of an earlier call, if the numbers are chosen already.
    """
    features = train.targets.shape[2]
    targets = [samples.targets.astype(np.float64) for samples in (train, validation)]
    base = np.zeros_like(targets[1])
    if config.linear:
        kernel, _, _, _ = solve_ridge(config, train, validation, slots=False)
        network.get_layer("linear").set_weights([kernel])
        bases = [predict_ridge(samples, kernel, None, np.zeros(kernel.shape[1])) for samples in (train, validation)]
        targets = [target - linear for target, linear in zip(targets, bases, strict=True)]
        base = bases[1]
    if config.calendar:
        network.get_layer(architecture.PROFILE).set_weights([slot_profile(train, targets[0])])
    columns = [_columns(network, samples) for samples in (train, validation)]
    courses: list[Growth] = []
    profiles: list[bool] = []
    for feature in range(features):
        parts = zip(columns, targets, (train, validation), strict=True)
        tasks = [Task(columns=x, targets=y[:, :, feature], weights=s.weights[:, feature]) for x, y, s in parts]

        def attempt(
            profile: bool, limit: int, *, fixed: bool = False, number: int = feature, tasks: list[Task] = tasks
        ) -> Growth:
            inputs = _candidates(config, features, number, profile=profile)
            return boost(tasks, inputs, config, options, seed=options.seed + number, limit=limit, fixed=fixed)

        if counts:
            profiles.append(counts[feature] > 0)
            courses.append(attempt(profiles[-1], abs(counts[feature]), fixed=True))
            continue
        pilots = [attempt(profile, PILOT_TREES) for profile in ((False, True) if config.calendar else ())]
        profiles.append(bool(pilots) and min(pilots[1].errors) < min(pilots[0].errors))
        courses.append(attempt(profiles[-1], max(1, min(config.trees, EXCESS * config.trees // features))))
    lengths = [len(course.trees) for course in courses] if counts else allocate_trees([c.errors for c in courses], config.trees)
    forests = [
        replace(join_forests(course.trees[:length]), target=np.full(length, feature))
        for feature, (course, length) in enumerate(zip(courses, lengths, strict=True))
    ]
    chosen = [length if profile else -length for length, profile in zip(lengths, profiles, strict=True)]
    joined = join_forests(forests)
    forest = replace(joined, value=round_leaves(joined.value, joined.root, joined.target))
    network.get_layer(architecture.FOREST).forest = forest
    residuals = validation.targets - base - evaluate_forest(columns[1], features, forest)
    bias = path_bias(np.zeros(train.targets.shape[1:]), residuals, config)
    network.get_layer(architecture.PATH).set_weights([bias])
    return chosen


def boost(
    tasks: Sequence[Task], inputs: Integers, config: ModelConfig, options: FitConfig, *, seed: int, limit: int, fixed: bool
) -> Growth:
    """Fit the trees of one feature.

    Args:
        tasks: Training and validation.
        inputs: Numbers of the columns that may be split at.
        config: Options of the network.
        options: Options of fitting.
        seed: Seed of the steps, samples and columns that trees are grown on.
        limit: Maximum number of trees.
        fixed: Whether there are to be as many, whatever the validation error.

    """
    train, validation = tasks
    random = np.random.default_rng(seed)
    rows, steps = train.targets.shape
    weights = train.weights / train.weights.mean()
    start = weighted_medians(train.targets, weights)
    forecast, checked = np.tile(start, (rows, 1)), np.tile(start, (len(validation.targets), 1))
    booster = lightgbm.Booster(
        {
            "objective": "none",
            "learning_rate": 1.0,
            "num_leaves": config.leaves,
            "min_data_in_leaf": max(1, min(MIN_LEAF_SAMPLES, rows // 50)),
            "feature_fraction": 0.6,
            "boost_from_average": False,
            "seed": seed % 2**31,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": 1,
            "use_missing": False,
            "max_bin": 127,
            "verbose": -1,
        },
        lightgbm.Dataset(
            train.columns[:, inputs],
            np.zeros(rows),
            params={"max_bin": 127, "feature_pre_filter": False, "use_missing": False, "num_threads": 1, "verbose": -1},
        ),
    )
    unit = np.average(np.abs(validation.targets - start), axis=0, weights=validation.weights) + 1e-12
    trees: list[Forest] = []
    course: list[float] = []
    for number in range(limit):
        step = 0 if number % 2 == 0 else min(int(random.integers(1, steps + LAST_STEP_TICKETS)), steps - 1)
        used = random.random(rows) < SUBSAMPLE
        gradient = np.sign(forecast[:, step] - train.targets[:, step]) * weights * used
        hessian = np.where(used, weights, 1e-9)
        if booster.update(fobj=lambda *_, both=(gradient, hessian): both):
            break  # no split is of use any more
        tree = _read_tree(booster, number, inputs, steps)
        leaves = find_leaves(train.columns, tree)[:, 0]
        for leaf in np.flatnonzero(tree.is_leaf):
            members = np.flatnonzero((leaves == leaf) & used)
            if len(members):
                residual = train.targets[members] - forecast[members]
                tree.value[leaf] = options.tree_rate * weighted_medians(residual, weights[members])
        forecast += tree.value[leaves]
        checked += tree.value[find_leaves(validation.columns, tree)[:, 0]]
        if number == 0:
            tree.value[tree.is_leaf] += start
        trees.append(tree)
        errors = np.average(np.abs(validation.targets - checked), axis=0, weights=validation.weights) / unit
        course.append(float(np.exp(np.log(errors + 1e-12).mean())))
        if not fixed and len(course) - 1 - int(np.argmin(course)) >= PATIENCE_TREES:
            break
    return Growth(trees=trees, errors=course) if trees else Growth(trees=[_single_leaf(start)], errors=[1.0])


def allocate_trees(errors: Sequence[Sequence[float]], total: int) -> list[int]:
    """Choose how many of its trees each feature gets, at most `total` together, and of each no more than do good.

    Args:
        errors: For each feature the validation error after each tree.
        total: Maximum number of trees.
    """
    lowest = [np.minimum.accumulate(np.log(course)) for course in errors]
    lengths = [int(np.argmin(course)) + 1 for course in errors]
    while sum(lengths) > total:
        if max(lengths) == 1:
            break
        # what the last trees bring together, so that one of no use does not hide those before it
        spans = [min(ALLOCATED, length - 1) for length in lengths]
        rates = [
            (course[length - 1 - span] - course[length - 1]) / span if span else np.inf
            for course, length, span in zip(lowest, lengths, spans, strict=True)
        ]
        lengths[int(np.argmin(rates))] -= 1
    return lengths


def _read_tree(booster: Any, number: int, inputs: Integers, steps: int) -> Forest:
    """Read one tree of a booster of which `inputs` are the columns; its leaves are still 0."""
    (structure,) = booster.dump_model(start_iteration=number, num_iteration=1)["tree_info"]
    feature: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    right: list[int] = []
    for node, parent, is_right in _nodes_in_order(structure["tree_structure"]):
        at = len(feature)
        if parent >= 0:
            (right if is_right else left)[parent] = at
        split = "split_feature" in node
        feature.append(int(inputs[node["split_feature"]]) if split else 0)
        threshold.append(node["threshold"] if split else 0.0)
        left.append(at)
        right.append(at)
    return Forest(
        feature=np.array(feature),
        threshold=round_thresholds(np.array(threshold)),
        left=np.array(left),
        right=np.array(right),
        value=np.zeros((len(feature), steps)),
        root=np.zeros(1, np.int64),
        target=np.zeros(1, np.int64),
    )


def _nodes_in_order(root: Any) -> Iterator[tuple[Any, int, bool]]:
    """Yield the nodes of a dumped tree, each after its parent, with the number of the parent and whether it is on its right."""
    pending, count = [(root, -1, False)], 0
    while pending:
        node, parent, is_right = pending.pop()
        yield node, parent, is_right
        if "split_feature" in node:
            assert node["decision_type"] == "<="
            pending += [(node["right_child"], count, True), (node["left_child"], count, False)]
        count += 1


def _single_leaf(value: Floats) -> Forest:
    zero = np.zeros(1, np.int64)
    return Forest(
        feature=zero,
        threshold=np.zeros(1, np.float32),
        left=zero,
        right=zero,
        value=value[np.newaxis],
        root=zero,
        target=zero,
    )


def weighted_medians(values: Floats, weights: Floats) -> Floats:
    """Return the weighted median of each column of `(n, steps)`."""
    order = np.argsort(values, axis=0, kind="stable")
    total = np.cumsum(weights[order], axis=0)
    middle = (total >= total[-1] / 2).argmax(axis=0)
    return np.asarray(np.take_along_axis(values, np.take_along_axis(order, middle[np.newaxis], axis=0), axis=0)[0])


def slot_profile(train: ScaledSamples, targets: Floats) -> Singles:
    """Return the median of the targets by slot of the day, `(DAY_SLOTS, steps * features)`; of all where there are few."""
    flat = targets.reshape(len(targets), -1)
    slots = train.inputs[:, -1, train.targets.shape[2] + SLOT_CHANNEL].astype(np.int64)
    table = np.tile(np.median(flat, axis=0), (DAY_SLOTS, 1))
    for slot in np.unique(slots):
        members = flat[slots == slot]
        if len(members) >= MIN_SLOT_SAMPLES:
            table[slot] = np.median(members, axis=0)
    return table.astype(np.float32)


def _columns(network: Any, samples: ScaledSamples) -> Singles:
    """Return what the forest of a network sees of samples."""
    layer = network.get_layer(architecture.FOREST)
    seen = keras.Model(network.input, layer.input)
    cuts = range(0, len(samples.inputs), CHUNK_ROWS)
    return np.concatenate([np.asarray(seen(samples.inputs[start : start + CHUNK_ROWS])) for start in cuts])


def _candidates(config: ModelConfig, features: int, feature: int, *, profile: bool) -> Integers:
    """Return the numbers of the columns that the trees of a feature may split at; see `tree_layers.WindowColumns`."""
    steps, first = config.sequence_len, int(config.level)
    count = steps - first
    chosen = [step * features + each for step in range(first) for each in range(features)]
    for each in range(features):
        own = each == feature
        lags = OWN_LAGS if own else OTHER_LAGS
        singles = [back for back in range(1, count + 1) if back <= lags or (own and back > count - OLDEST_LAGS)]
        means = [back for back in SUMMED_ROWS if back <= count]
        blocks = ([back for back in range(1, count + 1) if back <= lags], singles, means, singles, means)
        for block, backs in enumerate(blocks):
            start = steps + (block - 1) * count if block else first
            chosen += [(start + count - back) * features + each for back in backs]
    channels = (BLOCKS * steps - (BLOCKS - 1) * first) * features
    chosen += range(channels, channels + config.channels)
    if profile:
        start = channels + config.channels
        chosen += range(start + feature, start + config.steps_ahead * features, features)
    return np.array(sorted(chosen))
