"""Count the alerts of a watch of simulated connections and DNS lookups at a total budget, and which of them are real.

The records of 500 hosts over 14 days (`site.py`) go through the aggregation, a real server, the total budget, episodes, evidence
and the roll-up. An alert counts as real if one of its series takes part in an event at its time (`watched_site.judge`). The first
day, in which the budget is still being found, does not count.

Usage: python -m benchmarks.detection.total_budget.raw_records [--hosts 500] [--days 14] [--total 10]
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.detection.total_budget.site import Site
from benchmarks.detection.total_budget.site_model import publish_site_model
from benchmarks.detection.total_budget.watched_site import judge, watch
from benchmarks.support.processes import run_server
from mods_grpc.client import Client

SECONDS = 120.0


def print_worth(worth, counters, title):
    """Print the alerts a day, and those of each kind of event."""
    raised = len(worth.real) + len(worth.false)
    print(f"\n| {title} | a day |\n| --- | ---: |")
    print(f"| alerts | {raised / worth.days:.1f} |\n| real | {len(worth.real) / worth.days:.1f} |")
    print(f"| false | {len(worth.false) / worth.days:.1f} |")
    days = worth.days + 1
    print(f"| alerts that joined another, of all days | {counters.rolled_up / days:.1f} |")
    print(f"| anomalous windows, of all days | {counters.anomalous / days:.0f} |")
    print("\n| event | hosts | happened | shown | alerts | members of the largest |\n| --- |" + " ---: |" * 5)
    by_title = {}
    for event, alerts in worth.by_event.items():
        by_title.setdefault(event.title, []).append((event, alerts))
    for kind, happened in by_title.items():
        shown = sum(bool(alerts) for _, alerts in happened)
        ids = {alert.id for _, alerts in happened for alert in alerts}
        most = max((worth.members[each] for each in ids), default=0)
        print(f"| {kind} | {len(happened[0][0].hosts)} | {len(happened)} | {shown} | {len(ids)} | {most} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=500, help="hosts, at least 30 (default: %(default)s)")
    parser.add_argument("--days", type=int, default=14, help="days, at least 2 (default: %(default)s)")
    parser.add_argument("--total", type=float, default=10, help="false alarms a day (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mods-") as folder:
        publish_site_model(Path(folder))
        with run_server(repository=Path(folder)) as (_, port, _), Client(f"127.0.0.1:{port}", timeout_seconds=SECONDS) as client:
            site, started = Site(arguments.hosts, arguments.days), time.process_time()
            written, counters = watch(client, site.records(), total=arguments.total)
    title = f"{arguments.hosts} hosts, {arguments.days} days, total {arguments.total:g}"
    print_worth(judge(written, site, arguments.days), counters, title)
    windows, seconds = counters.windows, time.process_time() - started
    print(f"\n{windows:,} windows were judged; the watch took {seconds:.0f} s of processor time, with the simulation.")


if __name__ == "__main__":
    main()
