"""The cases of the benchmark of changes: what changes on which hosts, when, and by how much."""

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.detection.simulated import changes
from benchmarks.detection.simulated.hosts import (
    ROWS_PER_DAY,
    ROWS_PER_HOUR,
    ROWS_PER_WEEK,
    compute_busy_connections,
    compute_daily_peak,
)

# rows of the judged weeks, which begin on a Monday
RAMP_START = 2 * ROWS_PER_DAY
SERVICE_START = 3 * ROWS_PER_DAY + 9 * ROWS_PER_HOUR
UPDATE_START = 9 * ROWS_PER_DAY + 12 * ROWS_PER_HOUR
SUNDAY_BACKUP = 6 * ROWS_PER_DAY + 2 * ROWS_PER_HOUR

RAMP_FACTORS = (10, 100)  # of the daily peak, at the end
SERVICE_FACTORS = (0.1, 1)  # of the daily peak, in each ten minutes
SERVICE_CONNECTIONS = 0.5  # of those of a busy row
BACKUP_FACTOR = 10  # of the daily peak, in each ten minutes
UPLOADED = 300e6  # bytes that an update passes on
RAMP_HOSTS, SERVICE_HOSTS, BACKUP_HOSTS = slice(0, None, 3), slice(1, None, 4), slice(2, None, 4)


@dataclass(frozen=True, slots=True)
class Case:
    """A change, in rows of the judged weeks.

    Attributes:
        title: What changes.
        hosts: `(k,)` indices of the hosts that change.
        values: `(k, rows, columns)` their judged weeks with the change.
        start: First row of the change. end: First row after it; that of the start for one that stays.
        ramp: `(k, rows of the ramp)` bytes that the attacker sends; None for other changes.
    """

    title: str
    hosts: np.ndarray
    values: np.ndarray
    start: int
    end: int
    ramp: np.ndarray | None = None


def make_cases(hosts, first, seed):
    """Return the changes that are new, and those that were there in training with the hosts that they were fitted on.

    Args:
        hosts: The hosts, whose first judged row is `first`.
        seed: Seed of the changes.

    Returns:
        The cases for a model of the hosts as they are; the values of all hosts, `(hosts, rows, columns)`, with weekly backups on
        some of them; and the cases for a model of those.
    """
    generator = np.random.default_rng([seed, 1])
    peaks = np.array([compute_daily_peak(host[:first]) for host in hosts.values])
    judged = hosts.values[:, first:]
    cases = _make_ramps(judged, peaks) + _make_updates(judged, generator)
    busy = np.array([compute_busy_connections(host[:first]) for host in hosts.values])
    cases += _make_services(judged, peaks, busy, generator)
    backup, weekly = (_make_backups(values, peaks, generator) for values in (judged, hosts.values))
    with_backups = hosts.values.copy()
    with_backups[weekly.hosts] = weekly.values
    known_backup = replace(backup, title="backup, in training", values=weekly.values[:, first:])
    return [*cases, backup], with_backups, [known_backup]


def list_sundays(rows):
    """Return the rows at which backups begin, of `rows` that begin on a Monday."""
    return list(range(SUNDAY_BACKUP, rows, ROWS_PER_WEEK))


def _make_ramps(judged, peaks):
    chosen = np.arange(len(judged))[RAMP_HOSTS]
    cases = []
    for factor in RAMP_FACTORS:
        copies = np.stack([changes.add_ramp(judged[host], RAMP_START, factor * peaks[host]) for host in chosen])
        ramp = np.stack([changes.compute_ramp(factor * peaks[host]) for host in chosen])
        end = RAMP_START + changes.RAMP_ROWS
        cases.append(Case(f"ramp to {factor} peaks", chosen, copies, RAMP_START, end, ramp))
    return cases


def _make_updates(judged, generator):
    cases = []
    for title, uploaded in (("update, downloaded", 0.0), ("update, also uploaded", UPLOADED)):
        copies = np.stack([changes.add_update(host, UPDATE_START, uploaded, generator) for host in judged])
        cases.append(Case(title, np.arange(len(judged)), copies, UPDATE_START, UPDATE_START + ROWS_PER_HOUR))
    return cases


def _make_services(judged, peaks, busy, generator):
    chosen = np.arange(len(judged))[SERVICE_HOSTS]
    cases = []
    for factor in SERVICE_FACTORS:
        loads = [(host, SERVICE_CONNECTIONS * busy[host], factor * peaks[host]) for host in chosen]
        copies = np.stack([changes.add_service(judged[host], SERVICE_START, *load, generator) for host, *load in loads])
        cases.append(Case(f"service of {factor:g} peak", chosen, copies, SERVICE_START, SERVICE_START))
    return cases


def _make_backups(values, peaks, generator):
    chosen, rows = np.arange(len(values))[BACKUP_HOSTS], values.shape[1]
    sundays = list_sundays(rows)
    copies = [changes.add_backups(values[host], sundays, BACKUP_FACTOR * peaks[host], generator) for host in chosen]
    return Case("backup, new", chosen, np.stack(copies), sundays[0], sundays[-1] + changes.BACKUP_ROWS)
