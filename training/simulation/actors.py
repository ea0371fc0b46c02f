"""Who is behind the events of the simulated logs: hosts, ports and names of each event, in place of those drawn for its records.

A scan has one source that tries ports of all local hosts and gets no answer; a brute force has four sources and one target, and
none of its log-ins succeeds; a tunnel asks one resolver for names below one domain; an exfiltration sends to one host. Nobody is
behind outages and slow drifts. All addresses outside are for documentation.
"""

import numpy as np
import polars as pl

from mods_grpc.array_types import Floats, Integers
from training.data.events import EVENT_SHAPES
from training.simulation.aggregates import FEATURES, Simulation

NO_EVENT = -1
SCANNED_PORTS = (21, 22, 23, 25, 80, 110, 139, 143, 443, 445, 1433, 3306, 3389, 5432, 5900, 6379, 8080, 8443, 9200, 27017)
TUNNEL_DOMAIN = "updates.example"
_GUESSERS = 4
_HOSTS_PER_NETWORK = 250


def find_event_rows(simulation: Simulation) -> tuple[Integers, Floats]:
    """Return which event is in each ten minutes, and what it adds to the counts.

    Returns:
        `(rows,)`, numbers of events, `NO_EVENT` where there is none; and `(rows, features)`, expected counts that events added.
    """
    times = simulation.times[0] + np.arange(len(simulation.slides)) * (simulation.times[1] - simulation.times[0])
    numbers = np.full(len(times), NO_EVENT)
    added = np.zeros_like(simulation.slides)
    for number, event in enumerate(simulation.events):
        rows = (times >= event.start) & (times < event.end)
        numbers[rows] = number
        for name, amount in EVENT_SHAPES[event.kind].added.items():
            added[rows, FEATURES.index(name)] = amount * event.strength
    return numbers, added


def replace_actors(frame: pl.DataFrame, kinds: tuple[str, ...], generator: np.random.Generator) -> pl.DataFrame:
    """Give the records of events the hosts of their event.

    Args:
        frame: Records with the fields of the logs and a column `event`, the number of their event or `NO_EVENT`.
        kinds: The kind of each event.
        generator: Source of hosts and ports that a scan tries, of who guesses, and of sizes.
    """
    size = len(frame)
    number = pl.col("event")
    of_kind = {kind: number.is_in([index for index, each in enumerate(kinds) if each == kind]) for kind in EVENT_SHAPES}
    scans, guesses = of_kind["port_scan"], of_kind["ssh_brute_force"]
    tunnels, leaks = of_kind["dns_tunnel"], of_kind["exfiltration"]
    frame = frame.with_columns(
        pl.Series("scanned", generator.integers(0, 200 * _HOSTS_PER_NETWORK, size)),
        pl.Series("port", np.array(SCANNED_PORTS)[generator.integers(0, len(SCANNED_PORTS), size)]),
        pl.Series("guesser", np.minimum(generator.geometric(0.5, size), _GUESSERS)),
        pl.Series("sent", generator.lognormal(13.0, 0.5, size).astype(np.int64)),
    )
    scanned = pl.col("scanned")
    attacker = pl.format("203.0.113.{}", 1 + number % _HOSTS_PER_NETWORK)
    guesser = pl.format("192.0.2.{}", 1 + (_GUESSERS * number + pl.col("guesser")) % _HOSTS_PER_NETWORK)
    inside = pl.format("10.20.9.{}", 1 + number % _HOSTS_PER_NETWORK)
    target = pl.format("10.20.{}.{}", 1 + scanned // _HOSTS_PER_NETWORK, 1 + scanned % _HOSTS_PER_NETWORK)

    def choose(column: str, *choices: tuple[pl.Expr, pl.Expr]) -> pl.Expr:
        chosen = pl.col(column)
        for condition, value in choices:
            chosen = pl.when(condition).then(value).otherwise(chosen)
        return chosen.alias(column)

    return frame.with_columns(
        choose("id.orig_h", (scans | tunnels, attacker), (guesses, guesser), (leaks, inside)),
        choose("id.resp_h", (scans, target), (guesses | tunnels, inside), (leaks, attacker)),
        choose("id.resp_p", (scans, pl.col("port"))),
        choose("service", (scans, pl.lit(None))),
        choose("conn_state", (scans, pl.lit("S0"))),
        choose("duration", (scans, pl.lit(0.0))),
        choose("orig_bytes", (scans, pl.lit(0)), (leaks, pl.col("sent"))),
        choose("resp_bytes", (scans, pl.lit(0))),
        choose("client", (guesses, pl.lit("SSH-2.0-libssh2_1.11.0"))),
        choose("auth_success", (guesses, pl.lit(value=False))),
    )
