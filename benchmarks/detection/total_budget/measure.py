"""Measure which rule keeps a budget of false alarms over thousands of series.

Each rule sees 14 days of simulated p-values (`traffic.py`). False alarms are counted from the second day on, without those of the
attack on 200 hosts at noon of the ninth; rolled up, each of the bursts in many series counts once. Detection is the share of
events with p-values of 1e-4 to 5e-7, spread evenly in powers of ten over random series and times, that the level of the moment
would raise; the events change nothing.

Usage: python -m benchmarks.detection.total_budget.measure [--series 5000] [--total 10] [--days 14] [--seeds 3]
"""

import argparse

import numpy as np

from benchmarks.detection.total_budget import traffic
from benchmarks.detection.total_budget.rules import RULES, Ours

HOLDOFFS = {"10 min": 1, "1 h": 6}
PROBES = 40


def run(rule, simulated, seed):
    """Return false alarms by day, the same with one for each burst, detection by row, and alarms of the attack."""
    rng = np.random.default_rng(seed)
    rows, series = simulated.p_value.shape
    last, false, rolled_up, detected, attack = np.full(series, -(10**9)), np.zeros(rows), np.zeros(rows), np.zeros(rows), 0
    bursts = set()
    for row, p_values in enumerate(simulated.p_value):
        there = np.flatnonzero(~np.isnan(p_values))
        p_value = p_values[there]
        levels = rule.levels(there, p_value)
        anomalous = p_value <= levels
        started = anomalous & (row - last[there] > simulated.holdoff)
        last[there[anomalous]] = row
        probes = np.maximum(10 ** -rng.uniform(4, 6.3, PROBES), traffic.MIN_P)
        detected[row] = (probes <= levels[rng.integers(0, len(there), PROBES)]).mean()
        cause = simulated.cause[row, there]
        is_attacked = cause == traffic.ATTACK
        false[row], attack = (started & ~is_attacked).sum(), attack + (started & is_attacked).sum()
        new = set(cause[started & (cause > 0)].tolist()) - bursts
        bursts |= new
        rolled_up[row] = (started & (cause == 0)).sum() + len(new)
        rule.update(there, p_value, started)
    return *(counts.reshape(-1, traffic.ROWS_A_DAY).sum(1) for counts in (false, rolled_up)), detected, attack


def measure(make_rule, sites, series, total):
    """Return the figures of a rule, the mean over sites."""
    day, figures = traffic.ROWS_A_DAY, []
    over = traffic.ATTACK_DAY * day + day // 2 + 2 * traffic.ATTACK_ROWS + 6
    for seed, simulated in enumerate(sites):
        false, rolled_up, detected, attack = run(make_rule(series, total, simulated.holdoff), simulated, seed)
        before, after = detected[day : traffic.ATTACK_DAY * day].mean(), detected[over : over + day].mean()
        figures.append(
            (
                false[0],
                false[1:].mean(),
                rolled_up[1:].mean(),
                np.quantile(false[1:], 0.9),
                before,
                after,
                detected[-3 * day :].mean(),
                attack,
            )
        )
    return np.mean(figures, axis=0)


def print_row(title, figures):
    first, mean, rolled_up, most, before, after, end, attack = figures
    shares = " | ".join(f"{share:.0%}" for share in (before, after, end))
    print(f"| {title} | {first:.0f} | {mean:.1f} | {rolled_up:.1f} | {most:.0f} | {shares} | {attack:.0f} |", flush=True)


def print_head(title):
    columns = ("first day", "a day after it", "rolled up", "worst day in ten", "detected", "after the attack", "last 3 days")
    columns = (*columns, "of the attack")
    print(f"\n| {' | '.join((title, *columns))} |\n| --- |" + " ---: |" * len(columns))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=5_000, help="number of series (default: %(default)s)")
    parser.add_argument("--total", type=int, default=10, help="budget of all series a day (default: %(default)s)")
    parser.add_argument("--days", type=int, default=14, help="days, at least 12 (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="sites to simulate (default: %(default)s)")
    arguments = parser.parse_args()

    def simulate(series, holdoff, shares=traffic.SHARES):
        return [
            traffic.simulate(np.random.default_rng(seed), series, arguments.days, holdoff, shares)
            for seed in range(arguments.seeds)
        ]

    for window, holdoff in HOLDOFFS.items():
        sites = simulate(arguments.series, holdoff)
        print_head(f"{arguments.series:,} series, windows of {window}, budget {arguments.total}")
        for title, make_rule in RULES.items():
            print_row(title, measure(make_rule, sites, arguments.series, arguments.total))
    print_head("the last rule, windows of 1 h")
    for series, total, shares, title in (
        (arguments.series, 2, traffic.SHARES, "the same"),
        (arguments.series, 100, traffic.SHARES, "the same"),
        (500, 10, traffic.SHARES, "the same"),
        (arguments.series, 10, (1, 0, 0, 0), "all calibrated"),
        (arguments.series, 10, (0, 0, 0, 1), "all with a heavy tail"),
    ):
        sites = simulate(series, HOLDOFFS["1 h"], shares)
        print_row(f"{title}, {series:,} series, budget {total}", measure(Ours, sites, series, total))


if __name__ == "__main__":
    main()
