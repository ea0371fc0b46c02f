"""From a scene and a recipe to outcomes: aggregate, fit, export, serve, replay, score, compare."""

import importlib.util
import shutil
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.attacks import caches, product
from benchmarks.attacks.comparators import COMPARATORS
from benchmarks.attacks.pool_tables import find_absent, read_tables
from benchmarks.attacks.score import (
    calibrate,
    choose_event_threshold,
    choose_threshold,
    is_free,
    judge,
    list_episodes,
    split_alerts,
)
from mods_grpc.alarm_rules.episode_rule import holdoff_rows

FIT_SHARE = 0.6  # of the days before the last; comparators get their thresholds on the rest
REPLAY, POOLED, RULES = "model", "model, no envelope", "fixed rules"


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is measured.

    Attributes:
        windows: The windows.
        budgets: False alarms a series and day.
        total_budgets: Alerts a day for all hosts together, and distinct events a day.
        grace: How much later than an attack the window of an alert may begin, in seconds.
        seed: Seed of the fit.
        report: Called with a line on what is done.
    """

    windows: product.WindowGrid
    budgets: tuple
    total_budgets: tuple
    grace: float
    seed: int
    report: object


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a recipe in a scene.

    Attributes:
        recipe: The recipe, without the columns that were absent.
        outcomes, calibrations: What was raised, and how far p-values hold.
        absent: The columns that were absent.
        notices: How many notices the replay raised, by code.
        rules_before: Alerts of fixed rules on the days before the last; None if the product has no rules.
        scored: Share of the rows of the last day that were scored.
        unscored_hosts: Number of hosts of which none was.
        unscored_attacks: Indices of the placements during which no row of their host was.
        doubts: What `aggregate` and `replay` say is wrong with the logs of the scene.
    """

    recipe: object
    outcomes: list
    calibrations: list
    absent: list
    notices: dict
    rules_before: int | None
    scored: float
    unscored_hosts: int
    unscored_attacks: tuple = ()
    doubts: tuple = ()

    def to_json(self, scene):
        """Return all figures as values for JSON, with the attacks that each method found."""
        return {
            "recipe": {"name": self.recipe.name, "keys": self.recipe.ordered_keys},
            "absent": self.absent,
            "notices": self.notices,
            "doubts": self.doubts,
            "rules_before": self.rules_before,
            "scored": self.scored,
            "unscored_hosts": self.unscored_hosts,
            "unscored_attacks": self.unscored_attacks,
            "placements": [placement.to_json() | {"names": len(placement.names)} for placement in scene.placements],
            "outcomes": [
                {
                    "method": each.method,
                    "budget": each.budget,
                    "found": {str(number): delay for number, delay in each.delays.items()},
                    "false": [[episode.host, episode.start, episode.end, episode.rule] for episode in each.false],
                    "events": each.events,
                    "allowed": each.allowed,
                    "chance": each.chance,
                }
                for each in self.outcomes
            ],
            "calibrations": [asdict(each) for each in self.calibrations],
        }


def measure(scene, recipe, settings):
    """Run the product and the comparators on a scene with the columns of a recipe."""
    windows, report = settings.windows, settings.report
    pool = scene.folder / f"pool-{windows.name}-{caches.aggregate_key()}"
    if not pool.exists():
        report("aggregate")
        for stale in scene.folder.glob(f"pool-{windows.name}-*"):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    doubts = product.list_doubts(product.aggregate(scene, windows, pool, scene.folder / "aggregate.log"))
    hosts = tuple(scene.groups)
    absent = find_absent(pool, hosts, recipe.keys)
    recipe = recipe.without(absent)
    if not recipe.keys:
        raise ValueError(f"recipe {recipe.name}: the logs have none of its columns")
    report(f"read {len(recipe.keys)} columns")
    table = read_tables(pool, hosts, recipe.ordered_keys, windows.slide)
    folder = scene.folder / f"{recipe.name}-{caches.product_key(recipe.keys, windows.name, settings.seed)}"
    folder.mkdir(exist_ok=True)
    report("fit and export")
    repository = product.fit_and_export(scene, windows, recipe, pool, folder, settings.seed)
    outcomes, calibrations, replayed, rules_before, p_values = _run_product(scene, table, repository, folder, settings)
    for name, score in COMPARATORS.items():
        report(name)
        outcomes += _compare(name, score, scene, table, settings)
    is_scored = ~np.isnan(p_values[:, table.is_between(*scene.last_day)])
    return Result(
        recipe=recipe,
        outcomes=outcomes,
        calibrations=calibrations,
        absent=absent,
        notices=replayed.notices,
        rules_before=rules_before,
        scored=float(is_scored.mean()),
        unscored_hosts=int((~is_scored.any(axis=1)).sum()),
        unscored_attacks=find_unscored(scene, table, p_values, windows, settings.grace),
        doubts=tuple(dict.fromkeys([*doubts, *replayed.doubts])),
    )


def find_unscored(scene, table, p_values, windows, grace):
    """Return the indices of the attacks during which no row of their host was scored, so that the model can't find them."""
    unscored = []
    for number, attack in enumerate(scene.placements):
        during = table.is_between(attack.start - windows.window, attack.end + grace)
        if np.isnan(p_values[table.hosts.index(attack.host), during]).all():
            unscored.append(number)
    return tuple(unscored)


@dataclass(frozen=True, slots=True)
class _Replayed:
    """What the replay said beside its alerts: how many notices it raised, by code, and its doubts."""

    notices: dict
    doubts: list


def _run_product(scene, table, repository, folder, settings):
    """Return what the model and the fixed rules raised: the fields of `Result`, and the p-values."""
    windows, report = settings.windows, settings.report
    free = is_free(scene, table, windows)
    outcomes, calibrations, replayed, rule_episodes, rules_before = [], [], _Replayed({}, []), [], None
    with product.serve(repository, folder / "serve.log") as address:
        for budget in settings.budgets:
            report(f"replay at {format_budget(budget)}")
            lines, summary = product.replay(scene, windows, address, budget, folder)
            episodes, rule_episodes, notices = split_alerts(lines)
            replayed = _Replayed(notices, product.list_doubts(summary["account"]))
            outcomes.append(judge(REPLAY, format_budget(budget), episodes, scene, windows, settings.grace, budget))
        for name, own_envelope in ((POOLED, False), (REPLAY, True)):
            report(f"{name}: p-values")
            p_values = _stream_once(table, address, folder, own_envelope=own_envelope)
            for budget in () if own_envelope else settings.budgets:
                episodes = _list_at_level(p_values, address, budget, scene, table, windows)
                outcomes.append(judge(name, format_budget(budget), episodes, scene, windows, settings.grace, budget))
            for total in () if scene.clean else settings.total_budgets:
                budget = total / len(scene.groups)
                episodes = _list_at_level(p_values, address, budget, scene, table, windows)
                title = f"{total} false a day in all"
                outcomes.append(judge(name, title, episodes, scene, windows, settings.grace, budget))
            calibrations += calibrate(name, p_values, scene, table, free)
            outcomes += _judge_totals(name, -np.log10(p_values), scene, table, settings, rule_episodes)
    if has_rules():
        clean_days = [each for each in rule_episodes if each.concerns(scene.counted_hosts) and each.end <= scene.last_day[0]]
        rules_before = len(clean_days)
        outcomes.append(judge(RULES, "none", rule_episodes, scene, windows, settings.grace))
        for rule in sorted({episode.rule for episode in rule_episodes}):
            own = [episode for episode in rule_episodes if episode.rule == rule]
            outcomes.append(judge(f"rule {rule}", "none", own, scene, windows, settings.grace))
    return outcomes, calibrations, replayed, rules_before, p_values


def _list_at_level(p_values, address, budget, scene, table, windows):
    """Return the episodes of the last day at the level of a budget, before it adapts."""
    level = product.find_level(address, budget)
    return list_episodes(p_values <= level, table, windows, table.is_between(*scene.last_day))


def _stream_once(table, address, folder, *, own_envelope):
    path = folder / f"p-values-{own_envelope}.npy"
    if not path.exists():
        temporary = folder / "p-values.tmp.npy"
        np.save(temporary, product.stream(table, address, own_envelope=own_envelope))
        temporary.rename(path)
    return np.load(path)


def _judge_totals(name, scores, scene, table, settings, rule_episodes=()):
    """Return outcomes at each total budget, with the fixed rules as well where there are some."""
    if scene.clean:
        return []
    windows, last = settings.windows, table.is_between(*scene.last_day)
    day = np.where(last, scores, np.nan)
    outcomes = []
    for budget in settings.total_budgets:
        thresholds = {
            f"{budget} a day in all": choose_threshold(day, budget, holdoff_rows(windows.window, windows.slide)),
            f"{budget} events a day in all": choose_event_threshold(day, budget, table, scene, windows, settings.grace),
        }
        for title, threshold in thresholds.items():
            episodes = list_episodes(day >= threshold, table, windows, last)
            outcomes.append(judge(name, title, episodes, scene, windows, settings.grace))
            if rule_episodes:
                both = [*episodes, *rule_episodes]
                outcomes.append(judge(f"{name}, and {RULES}", title, both, scene, windows, settings.grace))
    return outcomes


def _compare(name, score, scene, table, settings):
    """Return the outcomes of a comparator."""
    windows = settings.windows
    start = scene.last_day[0]
    first = int(table.times[0])
    cut = first + FIT_SHARE * (start - first)
    trained = table.select(scene.clean) if scene.clean else table
    is_fit, is_held, last = table.is_between(first, cut), table.is_between(cut, start), table.is_between(*scene.last_day)
    if scene.clean:  # the others are copies of the clean host on the days before
        pooled = np.concatenate([trained.values, table.values])
        scores = score(pooled, is_fit, settings.seed)[len(trained.hosts) :]
    else:
        scores = score(table.values, is_fit, settings.seed)
    held = np.where(is_held, scores, np.nan)
    if scene.clean:
        held = held[[table.hosts.index(host) for host in scene.clean]]
    days = len(held) * (start - cut) / 86_400
    outcomes = []
    for budget in settings.budgets:
        threshold = choose_threshold(held, budget * days, holdoff_rows(windows.window, windows.slide))
        beyond = scores > np.nanmax(held) if np.isinf(threshold) else scores >= threshold
        episodes = list_episodes(beyond, table, windows, last)
        outcomes.append(judge(name, format_budget(budget), episodes, scene, windows, settings.grace, budget))
    return outcomes + _judge_totals(name, scores, scene, table, settings)


def has_rules():
    """Return whether the product has fixed rules."""
    return importlib.util.find_spec("mods_grpc.ids.rules") is not None


def format_budget(per_day):
    """Say a budget per series and day as a reader would."""
    for days, unit in ((1, "day"), (7, "week"), (30, "month")):
        count = per_day * days
        if count >= 1 - 1e-6:
            return f"{count:.3g} a {unit}"
    return f"1 in {1 / per_day:.0f} days"
