"""Changes of simulated hosts: each returns a changed copy of the rows of one host, `(rows, columns)`.

A remote host is new in the first ten minutes only: after them the series knows it, as `mods_grpc.features` counts. Bytes that are
downloaded are in no column of the preset `outward`.
"""

import numpy as np

from benchmarks.detection.simulated.hosts import (
    CONNECTIONS,
    MAX_SENT,
    NEW_CONNECTIONS,
    NEW_NAMES,
    NEW_SENT,
    PORTS,
    ROWS_PER_HOUR,
    ROWS_PER_WEEK,
    SENT,
)

RAMP_ROWS = ROWS_PER_WEEK
FIRST_BYTES = 1_000  # of a ramp, in ten minutes
BACKUP_ROWS = ROWS_PER_HOUR
UPDATE_ROWS = 3  # half an hour, which begins within the first half of the hour


def add_flow(values, start, sent, connections):
    """Add connections with one new remote host: bytes sent and connections by row, `(n,)` each, from row `start` on."""
    changed, rows = values.copy(), slice(start, start + len(sent))
    changed[rows, CONNECTIONS] += connections
    changed[rows, SENT] += sent
    changed[rows, PORTS] += np.asarray(connections) > 0
    changed[rows, MAX_SENT] = np.maximum(changed[rows, MAX_SENT], sent)
    changed[start, NEW_CONNECTIONS] += connections[0]
    changed[start, NEW_SENT] += sent[0]
    changed[start, NEW_NAMES] += 1
    return changed


def compute_ramp(max_sent):
    """Return the bytes by row of an attacker who grows for a week from nothing to `max_sent`, evenly in log space."""
    return np.round(np.geomspace(FIRST_BYTES, max_sent, RAMP_ROWS))


def add_ramp(values, start, max_sent):
    """Add an attacker who ramps up for a week, with one connection in ten minutes, and then stops."""
    return add_flow(values, start, compute_ramp(max_sent), np.ones(RAMP_ROWS))


def add_update(values, start, uploaded, generator):
    """Add a software update within the hour from row `start`: 20 to 60 connections in ten minutes, and `uploaded` with requests.

    `uploaded` are the bytes that the host passes on to others, 0 for none.
    """
    first = start + int(generator.integers(0, ROWS_PER_HOUR - UPDATE_ROWS + 1))
    connections = generator.integers(20, 61, UPDATE_ROWS).astype(np.float64)
    requests = np.round(connections * generator.uniform(1_000, 3_000, UPDATE_ROWS))
    passed_on = np.round(uploaded / UPDATE_ROWS * generator.uniform(0.8, 1.2, UPDATE_ROWS))
    return add_flow(values, first, requests + passed_on, connections)


def add_service(values, start, connections, sent, generator):
    """Add a service for good: on average so many connections and bytes sent in ten minutes, to one new remote host."""
    rows = len(values) - start
    spread = np.exp(generator.normal(0, 0.2, rows))
    return add_flow(values, start, np.round(sent * spread), generator.poisson(connections, rows).astype(np.float64))


def add_backups(values, starts, sent, generator):
    """Add a backup of an hour at each of the rows `starts`, with on average `sent` bytes in ten minutes.

    Its remote host is new at the first one only: the product remembers it for a week from the end of each on.
    """
    changed = values
    for number, start in enumerate(starts):
        amounts = np.round(sent * np.exp(generator.normal(0, 0.15, BACKUP_ROWS)))
        earlier = changed[start, [NEW_CONNECTIONS, NEW_SENT, NEW_NAMES]]
        changed = add_flow(changed, start, amounts, np.full(BACKUP_ROWS, 2.0))
        if number:
            changed[start, [NEW_CONNECTIONS, NEW_SENT, NEW_NAMES]] = earlier
    return changed
