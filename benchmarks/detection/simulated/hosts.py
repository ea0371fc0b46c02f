"""Weeks of simulated hosts, a series each, in columns of the preset `outward`: windows of ten minutes every ten minutes.

Hosts differ in size by a factor of ten and more. Workstations work by day and on weekdays, with days of absence; servers work
all day, with a job every night. Activity wanders by the hour and by the day, uploads have lengths and a Pareto tail, and names
that don't exist and connections that fail come in bursts. Not real traffic.
"""

from dataclasses import dataclass

import numpy as np

COLUMNS = (
    "conn|out_connections",
    "conn|out_bytes_sent",
    "conn|out_failed",
    "conn|out_distinct_host_ports",
    "conn|out_new_host_connections",
    "conn|out_new_host_bytes",
    "conn|out_max_host_bytes",
    "dns|out_nxdomain",
    "ssl|out_new_server_names",
)
CONNECTIONS, SENT, FAILED, PORTS, NEW_CONNECTIONS, NEW_SENT, MAX_SENT, NO_NAME, NEW_NAMES = range(len(COLUMNS))
SLIDE_SECONDS = 600
ROWS_PER_HOUR, ROWS_PER_DAY, DAYS_PER_WEEK = 6, 144, 7
ROWS_PER_WEEK = DAYS_PER_WEEK * ROWS_PER_DAY
FIRST_DAY = np.datetime64("2026-01-05T00:00:00")  # a Monday
SATURDAY = 5
MAX_UPLOAD = 2e9  # bytes in ten minutes
SHARE_NEW = {False: 0.04, True: 0.005}  # of the connections, by whether the host is a server


@dataclass(frozen=True, slots=True)
class Hosts:
    """Simulated hosts: `times` `(rows,)`, `values` `(hosts, rows, columns)`, and `is_server` `(hosts,)`."""

    times: np.ndarray
    values: np.ndarray
    is_server: np.ndarray


def simulate_hosts(workstations, servers, weeks, seed):
    """Simulate hosts, the workstations first. A host is the same whatever the number of the others."""
    rows = weeks * ROWS_PER_WEEK
    is_server = np.arange(workstations + servers) >= workstations
    numbers = [*range(workstations), *range(servers)]
    values = [
        _simulate_host(rows, server, np.random.default_rng([seed, int(server), number]))
        for server, number in zip(is_server.tolist(), numbers, strict=True)
    ]
    times = FIRST_DAY + np.arange(rows) * np.timedelta64(SLIDE_SECONDS, "s")
    return Hosts(times=times, values=np.stack(values), is_server=is_server)


def compute_daily_peak(values):
    """Return the most bytes that a host `(rows, columns)` sends in ten minutes of a day, the median over days."""
    return float(np.median(values[:, SENT].reshape(-1, ROWS_PER_DAY).max(axis=1)))


def compute_busy_connections(values):
    """Return the connections of a host `(rows, columns)` in a busy row: the 80 % quantile."""
    return float(np.quantile(values[:, CONNECTIONS], 0.8))


def _simulate_host(rows, is_server, generator):
    """Draw the rows of a host, `(rows, columns)`."""
    size = np.exp(generator.normal(0, 0.6))
    activity = (_serve if is_server else _work)(rows, generator) * _vary_activity(rows, generator)
    rate = size * (300 if is_server else 40) * activity
    values = np.zeros((rows, len(COLUMNS)))
    connections = generator.poisson(rate * generator.gamma(8, 1 / 8, rows))
    values[:, CONNECTIONS] = connections
    values[:, PORTS] = np.minimum(np.floor(connections**0.85 * np.exp(generator.normal(0, 0.1, rows))), connections)
    news = generator.binomial(connections, np.minimum(SHARE_NEW[is_server] * generator.gamma(3, 1 / 3, rows), 1))
    values[:, NEW_CONNECTIONS] = news
    values[:, NEW_NAMES] = generator.binomial(news, 0.5)
    values[:, NEW_SENT] = np.floor(news * 1_500 * np.exp(generator.normal(0, 0.9, rows)))
    sent = np.floor(connections * 1_500 * np.exp(generator.normal(0, 0.5, rows)))
    uploads, first = _draw_runs(rows, 0.03 * np.minimum(activity, 1.5), 3, generator)
    upload = np.floor(uploads * np.minimum(1.5e6 * size * (1 + generator.pareto(1.3, rows)), MAX_UPLOAD))
    values[:, SENT] = sent + upload
    values[:, MAX_SENT] = np.maximum(np.floor(sent * generator.beta(2, 4, rows)), upload)
    to_new = first & (generator.random(rows) < 0.1)
    values[to_new, NEW_SENT] += upload[to_new]
    values[to_new, NEW_CONNECTIONS] += 1
    unreachable, _ = _draw_runs(rows, 0.004 * np.minimum(activity, 1.5), 4, generator)
    values[:, FAILED] = generator.binomial(connections, 0.02)
    values[:, FAILED] += unreachable * generator.poisson(np.minimum(3 * (1 + generator.pareto(1.3, rows)), 1000))
    mistyped, _ = _draw_runs(rows, 0.004 * np.minimum(activity, 1.5), 2, generator)
    values[:, NO_NAME] = generator.poisson(0.02 * rate)
    values[:, NO_NAME] += mistyped * generator.poisson(np.minimum(4 * (1 + generator.pareto(1.5, rows)), 1000))
    values[:, CONNECTIONS] += unreachable * values[:, FAILED]
    return values


def _work(rows, generator):
    """Return the activity of a workstation: about 1 in working hours, and 0.06 of updates and telemetry otherwise."""
    days = rows // ROWS_PER_DAY
    begins = 8.3 + generator.normal(0, 0.7) + generator.normal(0, 0.4, days)
    ends = np.maximum(begins + 4, 17.5 + generator.normal(0, 0.7) + generator.normal(0, 0.8, days))
    is_weekend = np.arange(days) % DAYS_PER_WEEK >= SATURDAY
    present = np.where(is_weekend, 0.5 * (generator.random(days) < 0.08), generator.random(days) >= 0.08)
    hour = np.arange(ROWS_PER_DAY) / ROWS_PER_HOUR
    at_work = 1 / (1 + np.exp(-(hour - begins[:, None]) / 0.3)) - 1 / (1 + np.exp(-(hour - ends[:, None]) / 0.5))
    lunch = 1 - 0.5 * np.exp(-(((hour - 12.5) / 0.5) ** 2))
    return (0.06 + present[:, None] * at_work * lunch).ravel()


def _serve(rows, generator):
    """Return the activity of a server: a mild rhythm of day and week, and a job of half an hour every night."""
    days = rows // ROWS_PER_DAY
    hour = np.arange(ROWS_PER_DAY) / ROWS_PER_HOUR
    by_day = 0.7 + 0.3 * np.exp(-(((hour - 14) / 4) ** 2))
    job = int(generator.integers(0, 5 * ROWS_PER_HOUR))
    by_day[job : job + 3] += 0.5
    by_week = np.where(np.arange(days) % DAYS_PER_WEEK >= SATURDAY, 0.75, 1.0)
    return (by_week[:, None] * by_day).ravel()


def _vary_activity(rows, generator):
    """Return a factor on activity that changes with time constants of two hours and of two days."""
    hours, days = 12, 2 * ROWS_PER_DAY
    return np.exp(0.2 * _correlate(rows, hours, generator) + 0.15 * _correlate(rows, days, generator))


def _correlate(rows, constant, generator):
    """Return noise of variance 1 that is correlated over `constant` rows."""
    kernel = np.exp(-np.arange(4 * constant) / constant)
    noise = generator.normal(0, 1 / np.sqrt((kernel**2).sum()), rows + len(kernel) - 1)
    return np.convolve(noise, kernel, "valid")


def _draw_runs(rows, chance, mean_length, generator):
    """Draw runs of rows that begin with a chance per row; return which rows are in one, and which are the first of one."""
    first = generator.random(rows) < chance
    inside = np.zeros(rows, np.bool_)
    for start in np.flatnonzero(first):
        inside[start : start + generator.geometric(1 / mean_length)] = True
    first[1:] &= ~inside[:-1]
    return inside, first
