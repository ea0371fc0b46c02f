"""The tables of the benchmark of changes, in Markdown."""

import numpy as np

from benchmarks.detection.simulated.hosts import ROWS_PER_DAY, ROWS_PER_HOUR, ROWS_PER_WEEK, compute_daily_peak
from benchmarks.detection.simulated.outcomes import count_together, find_caused_alerts, measure_outcome

MODELS = ("of ordinary weeks", "of weeks with backups")
HOW_TO_READ = """{hosts} simulated hosts, judged for {days} days. Each changed host is compared with the same host without the
change, whose figure follows after a slash. Verdicts on other hosts don't depend on it: theirs are those of the first table. A
host is "raising" if the change causes an alert: its p-value there is at most half of that without the change, where nothing
is anomalous. Times run from the start of the change to the end of the window that raises. "After the end" is how many days
after the end of the change (for a service, after its start) the last such alert comes, median and maximum. Whether alerts end
is best seen in the last week: alerts of a host, and rows anomalous. A daily peak is the most that a host sends in ten minutes
of a day, the median over days: {peak:.3g} MB for the median host."""


def format_tables(hosts, results, budgets, days):
    """Return all tables.

    Args:
        hosts: The hosts without any change.
        results: Per model its cases, and by budget the verdicts on the hosts and on the copies of each case.
        budgets: False alarms a day, by title.
        days: Days that were judged.
    """
    peaks = [compute_daily_peak(host) for host in hosts.values]
    parts = [
        HOW_TO_READ.format(hosts=len(hosts.values), days=days, peak=np.median(peaks) / 1e6),
        "Hosts without any change:",
        _format_untouched(hosts.is_server, results, budgets, days),
        "Changes:",
        _format_changes(results),
        "Ramps, what the attacker sends until the first alert, median over hosts that raise while it lasts:",
        _format_ramps(results),
        "Updates on all hosts at once, what a roll-up must join:",
        _format_updates(results),
        "Backups, hosts that raise within two hours from their start:",
        _format_backups(results),
    ]
    return "\n\n".join(parts)


def _format_table(head, rows):
    align = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, align, *rows))


def _each(results):
    """Yield the case, the budget's title, and the verdicts on changed and on untouched hosts."""
    for cases, judged in results:
        for index, case in enumerate(cases):
            for title, (hosts, copies) in judged.items():
                yield case, title, copies[index], hosts[case.hosts]


def _format_untouched(is_server, results, budgets, days):
    head = [
        "model",
        "budget",
        "alerts allowed",
        "raised",
        "by workstations",
        "by servers",
        "most by one host",
        "drift flag, hosts",
    ]
    rows = []
    for name, (_, judged) in zip(MODELS, results, strict=True):
        for title, (hosts, _) in judged.items():
            alerts = hosts.started.sum(axis=1)
            counts = [
                alerts.sum(),
                alerts[~is_server].sum(),
                alerts[is_server].sum(),
                alerts.max(),
                hosts.drift.any(axis=1).sum(),
            ]
            rows.append([name, title, f"{budgets[title] * days * len(alerts):.0f}", *map(str, counts)])
    return _format_table(head, rows)


def _format_changes(results):
    head = ["change, budget", "hosts", "alerts a changed host", "raising", "first alert, median", "after the end, days"]
    head += [
        "rows anomalous meanwhile",
        "rows anomalous in the last week",
        "alerts a host in the last week",
        "drift flag, hosts",
        "drift flag in the last row",
    ]
    rows = []
    for case, title, changed, untouched in _each(results):
        outcome = measure_outcome(changed, untouched, case.start, case.end)
        after = outcome["rows_after_end"] / ROWS_PER_DAY
        cells = [
            f"{case.title}, {title}",
            str(outcome["hosts"]),
            "{:.1f} / {:.1f}".format(*outcome["alerts"]),
            str(outcome["raising"]),
            format_rows(outcome["delay"]),
            f"{np.median(after):.1f}, {after.max():.1f}" if after.size else "-",
            *("{:.1%} / {:.1%}".format(*outcome[name]) for name in ("anomalous", "anomalous_last_week")),
            "{:.1f} / {:.1f}".format(*outcome["alerts_last_week"]),
            *("{} / {}".format(*outcome[name]) for name in ("drift", "drift_at_end")),
        ]
        rows.append(cells)
    return _format_table(head, rows)


def format_rows(rows):
    """Return the median of counts of ten minutes in minutes, hours or days; a dash without any."""
    if not len(rows):
        return "-"
    minutes = 10 * float(np.median(rows))
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h" if minutes < 2880 else f"{minutes / 1440:.1f} days"


def _format_ramps(results):
    rows = []
    for case, title, changed, untouched in _each(results):
        if case.ramp is None:
            continue
        caused = find_caused_alerts(changed, untouched, case.start)[:, case.start : case.end]
        raises = caused.any(axis=1)
        first, ramp = np.argmax(caused, axis=1)[raises], case.ramp[raises]
        rate, total = (one[np.arange(len(first)), first] for one in (ramp, np.cumsum(ramp, axis=1)))
        cells = ["-"] * 3
        if len(first):
            share = np.median(total / ramp.sum(axis=1))
            cells = [f"{np.median(rate) / 1e6:.3g}", f"{np.median(total) / 1e9:.3g}", f"{share:.1%}"]
        rows.append([f"{case.title}, {title}", f"{raises.sum()} of {len(raises)}", *cells])
    head = ["ramp, budget", "raising while it lasts", "MB sent in the ten minutes that raise", "GB sent until then", "of all"]
    return _format_table(head, rows)


def _format_updates(results):
    rows = []
    for case, title, changed, untouched in _each(results):
        if not case.title.startswith("update"):
            continue
        around = slice(case.start, case.end + 1)  # the fall after the update as well
        raising = changed.started[:, around].any(axis=1).sum()
        together = count_together(changed.started[:, around], ROWS_PER_HOUR)
        rows.append(
            [
                f"{case.title}, {title}",
                f"{raising} of {len(changed.started)}",
                str(together),
                str(count_together(untouched.started, ROWS_PER_HOUR)),
            ]
        )
    return _format_table(["update, budget", "hosts that raise", "within one hour", "most in any hour without"], rows)


def _format_backups(results):
    rows = []
    for case, title, changed, untouched in _each(results):
        if not case.title.startswith("backup"):
            continue
        sundays = range(case.start, changed.started.shape[1], ROWS_PER_WEEK)
        counts = [
            " / ".join(str(one.started[:, row : row + 2 * ROWS_PER_HOUR].any(axis=1).sum()) for one in (changed, untouched))
            for row in sundays
        ]
        rows.append([f"{case.title}, {title}", str(len(changed.started)), *counts])
    return _format_table(["backup, budget", "hosts", *(f"Sunday {number + 1}" for number in range(len(rows[0]) - 2))], rows)
