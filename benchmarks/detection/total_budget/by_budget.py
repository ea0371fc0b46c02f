"""Count the alerts of a recorded table by budget: a larger one must never give fewer.

The table is scored once by a server, with the p-values and features of every window. For each budget the windows at or below its
level, as the server answers it, are the anomalous ones, and `Episodes` raises their alerts; levels do not adapt.

Usage: python -m benchmarks.detection.total_budget.by_budget TABLE [--model mods-2019] [--days 60]
"""

import argparse
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from benchmarks.support.processes import run_server
from mods_grpc.client import Client, VerdictStatus
from mods_grpc.data.tables import TableLayout, open_table, read_rows
from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.watch.scoring.options import ScoringOptions
from mods_grpc.ids.watch.scoring.scoring_client import ScoringClient
from mods_grpc.ids.windows.recorded import batch_table_rows

ROOT = Path(__file__).parents[3]
BUDGETS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0, 20.0)
TIME_COLUMN = "window_start"
SECONDS = 60.0


def score(client, model, table, days):
    """Return the verdicts on the last days of a table."""
    with open_table(table) as lines:
        rows = list(read_rows(lines, TableLayout(features=model.feature_names, time_column=TIME_COLUMN), table.name))
    rows = rows[-round(days * 86_400 / model.slide_seconds) :]
    scorer = _make_scorer(client, model, 1.0)
    scorer.open()
    verdicts = [verdict for batch in batch_table_rows(rows) for verdict in scorer.score(batch)]
    scorer.close()
    return verdicts


def find_level(client, model, budget):
    """Return the level of a budget per series and day, as the server answers it."""
    scorer = _make_scorer(client, model, budget)
    level = scorer.open()
    scorer.close()
    return level


def _make_scorer(client, model, budget):
    namespace = f"by-budget-{budget:g}"
    options = ScoringOptions(model=model.name, namespace=namespace, false_alarms_per_day=budget, explain="all", fixed_level=True)
    return ScoringClient(client, model, options)


def raise_alerts(model, verdicts, level):
    """Return the alerts of verdicts at a level."""
    options = AlertOptions(
        sensor="table", window_seconds=model.window_seconds, slide_seconds=model.slide_seconds, significance=level, ends=True
    )
    episodes = Episodes(options)
    marked = (
        replace(verdict, anomalous=verdict.p_value <= level)
        for verdict in verdicts
        if verdict.status is VerdictStatus.SCORED and verdict.p_value is not None
    )
    return [alert for verdict in marked for alert in episodes.update(verdict)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="table of the model's features")
    parser.add_argument("--model", default="mods-2019", help="model of exported (default: %(default)s)")
    parser.add_argument("--days", type=float, default=60, help="last days of the table to judge (default: %(default)s)")
    arguments = parser.parse_args()
    with run_server(repository=ROOT / "exported") as (_, port, _), Client(f"127.0.0.1:{port}", timeout_seconds=SECONDS) as client:
        model = client.model(arguments.model)
        verdicts = score(client, model, arguments.table, arguments.days)
        levels = [find_level(client, model, budget) for budget in BUDGETS]
    print("| budget a day | level | anomalous windows | alerts | of these first of an episode | updates | episodes |")
    print("| ---: " * 7 + "|")
    counts = []
    for budget, level in zip(BUDGETS, levels, strict=True):
        alerts = raise_alerts(model, verdicts, level)
        starts = [alert for alert in alerts if alert.phase is AlertPhase.START]
        first = sum(alert.number == 0 for alert in starts)
        updates = sum(alert.phase is AlertPhase.UPDATE for alert in alerts)
        anomalous = sum(verdict.p_value is not None and verdict.p_value <= level for verdict in verdicts)
        episodes = len({alert.episode_id for alert in starts})
        print(f"| {budget:g} | {level:.2g} | {anomalous} | {len(starts)} | {first} | {updates} | {episodes} |")
        counts.append(len(starts))
    if any(more < fewer for fewer, more in pairwise(counts)):
        sys.exit("a larger budget gave fewer alerts")


if __name__ == "__main__":
    main()
