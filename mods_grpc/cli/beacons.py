"""`mods-grpc beacons`: rank how regularly own hosts contact young, rare destinations, from recorded logs."""

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from rich.markup import escape
from rich.table import Table

from mods_grpc.cli.arguments import add_command, add_networks, add_recorded_logs, span
from mods_grpc.cli.output import make_console, write_json
from mods_grpc.command_line import number, whole_number
from mods_grpc.errors import NoLogsError
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_OK, EXIT_USAGE, print_error
from mods_grpc.ids.beacons.contacts import Contacts
from mods_grpc.ids.beacons.ranking import (
    MAX_AGE_SECONDS,
    MAX_PREVALENCE,
    MIN_CONNECTIONS,
    RARE_HOSTS,
    Beacon,
    Filters,
    Ranking,
    Reason,
    rank_beacons,
    to_time,
)
from mods_grpc.ids.health.account import (
    Account,
    RejectedLines,
    count_noun,
    find_unused,
    format_account,
    format_short_span,
    make_account,
)
from mods_grpc.ids.health.doubts import Doubt, Expectation, find_doubts, format_doubts, is_doubtful, order_doubts
from mods_grpc.ids.logs.pipes import copying_pipes
from mods_grpc.ids.sources.reader import LogReader

PROTOCOLS = ("conn", "ssl", "http")
DEFAULT_TOP = 20
_SHOWN_NAMES = 2  # of a domain or address, so that a row stays one line
_DAY_SECONDS = 86_400


def add_beacons_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the `beacons` command."""
    parser = add_command(commands, "beacons", "rank how regularly own hosts contact young, rare destinations")
    add_recorded_logs(parser)
    add_networks(parser)
    parser.add_argument(
        "--min-connections",
        type=whole_number(4),
        default=MIN_CONNECTIONS,
        metavar="N",
        help="least connections of a host with a destination (default %(default)s)",
    )
    parser.add_argument(
        "--max-prevalence",
        type=number(above=0, maximum=1, what="a share"),
        default=MAX_PREVALENCE,
        metavar="SHARE",
        help=f"greatest share of own hosts that contact the destination; {RARE_HOSTS} hosts, or half of fewer, always may "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--max-age",
        type=span(),
        default=float(MAX_AGE_SECONDS),
        metavar="SPAN",
        help=f"greatest age of the destination: from its first connection in the logs to their end (default "
        f"{format_short_span(MAX_AGE_SECONDS)})",
    )
    parser.add_argument(
        "--min-score", type=number(minimum=0, maximum=1, what="a score"), default=0.0, metavar="SCORE", help="least score, 0 to 1"
    )
    parser.add_argument(
        "--top", type=whole_number(1), default=DEFAULT_TOP, metavar="N", help="print the first N (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.epilog = (
        "Exit status 3: finished, but what was read can't be trusted, or the filters left nothing whose regularity could be "
        "measured; the last line says why."
    )
    parser.set_defaults(run=run_beacons)


def run_beacons(arguments: argparse.Namespace) -> int:
    """Read the logs and print the ranking."""
    if importlib.util.find_spec("publicsuffixlist") is None:
        print_error("beacons needs publicsuffixlist: pip install 'mods-grpc[ids]'")
        return EXIT_USAGE
    contacts = Contacts(arguments.local)
    account = _read(arguments, contacts)
    filters = Filters(
        min_connections=arguments.min_connections,
        max_prevalence=arguments.max_prevalence,
        max_age_seconds=arguments.max_age,
        min_score=arguments.min_score,
    )
    ranking = rank_beacons(contacts, filters)
    doubts = _find_doubts(account, contacts, ranking, arguments.local)
    top = ranking.beacons[: arguments.top]
    if arguments.json:
        write_json(_to_json(top, ranking, contacts, account, doubts))
    else:
        _print_table(top)
    sys.stdout.flush()
    sys.stderr.write(format_account(account))
    sys.stderr.write(_format_counts(ranking, contacts, filters))
    sys.stderr.write(format_doubts(doubts))
    return EXIT_DOUBTFUL if is_doubtful(doubts) else EXIT_OK


def _read(arguments: argparse.Namespace, contacts: Contacts) -> Account:
    rejected = RejectedLines()
    with ExitStack() as stack:
        paths = stack.enter_context(copying_pipes(arguments.logs))
        try:
            reader = stack.enter_context(LogReader(paths, protocols=PROTOCOLS, on_rejected=rejected.add))
        except NoLogsError as error:
            return Account(left_out=error.listing.left_out)
        for record in reader.poll():
            contacts.add(record)
        return make_account(
            reader.counters,
            contacts.counters,
            files_read=len(reader.listing.files),
            left_out=reader.listing.left_out,
            unused=find_unused(paths, reader.listing),
            overlapping=reader.listing.overlapping,
            rejected=rejected,
            ahead=0,
            windows=1,  # the whole time of the logs
        )


def _find_doubts(account: Account, contacts: Contacts, ranking: Ranking, local_networks: Sequence[str]) -> list[Doubt]:
    expected = Expectation(
        protocols=PROTOCOLS,
        needed=("conn",),
        local_networks=tuple(local_networks),
        window_seconds=1.0,
        slide_seconds=1.0,
        lateness_seconds=_DAY_SECONDS,
        now_ns=time.time_ns(),
    )
    doubts = find_doubts(account, expected)
    if contacts.forgotten:
        message = (
            f"{count_noun(contacts.forgotten, 'pair')} with the fewest connections did not fit into memory, so that numbers of "
            "hosts and ages may be too small; rank fewer hosts or days at once"
        )
        doubts.insert(0, Doubt("pairs_forgotten", message, is_severe=False))
    if account.records_by_protocol.get("conn") and not ranking.scored:
        # an empty list would read as a network without beacons; before the severe doubts, which may be why
        doubts = order_doubts([Doubt("nothing_ranked", _explain_nothing_ranked(contacts, ranking), is_severe=True), *doubts])
    return doubts


def _explain_nothing_ranked(contacts: Contacts, ranking: Ranking) -> str:
    if not contacts.pairs:
        return "no own host has an outward connection, so that there is nothing to rank; check --local and the logs"
    advice = {
        Reason.CONNECTIONS: "give logs of more time, or a smaller --min-connections",
        Reason.PREVALENCE: "give a greater --max-prevalence",
        Reason.AGE: "give a greater --max-age",
    }
    furthest = ranking.furthest or Reason.SECONDS
    return f"the filters left no contact whose regularity could be measured; {advice.get(furthest, 'give logs of more time')}"


def _format_counts(ranking: Ranking, contacts: Contacts, filters: Filters) -> str:
    """Say how many pairs are ranked, and why the others are not."""
    reasons = {
        Reason.CONNECTIONS: f"of fewer than {filters.min_connections:,} connections",
        Reason.PREVALENCE: f"contacted by more than {count_noun(filters.max_hosts(len(contacts.hosts)), 'own host')}",
        Reason.AGE: f"known for longer than {format_short_span(filters.max_age_seconds)}",
        Reason.SECONDS: "in fewer than four different seconds",
        Reason.SCORE: f"with a score below {filters.min_score:g}",
        Reason.SAME: "the same connections as a better row",
    }
    left_out = ", ".join(f"{ranking.left_out[reason]:,} {text}" for reason, text in reasons.items() if ranking.left_out[reason])
    return (
        f"{count_noun(len(ranking.beacons), 'contact')} ranked of {count_noun(len(contacts.pairs), 'pair')} of "
        f"{count_noun(len(contacts.hosts), 'own host')} and names, domains and addresses\n"
        f"left out: {left_out or 'none'}\n"
    )


def _to_json(
    beacons: Sequence[Beacon], ranking: Ranking, contacts: Contacts, account: Account, doubts: Sequence[Doubt]
) -> dict[str, Any]:
    return {
        "beacons": [beacon.to_json() for beacon in beacons],
        "ranked": len(ranking.beacons),
        "left_out": dict(ranking.left_out),
        "pairs": len(contacts.pairs),
        "hosts": len(contacts.hosts),
        "forgotten_pairs": contacts.forgotten,
        "account": account.to_json() | {"doubts": [doubt.to_json() for doubt in doubts]},
    }


def _print_table(beacons: Sequence[Beacon]) -> None:
    """Print a line per contact: the scores first, then the evidence."""
    columns = (
        "",
        "score",
        "host",
        "destination",
        "by",
        "connections",
        "every",
        "bytes each",
        "bytes",
        "own hosts",
        "age",
        "first",
        "last",
        "names",
    )
    table = Table(*columns, box=None, pad_edge=False)
    for rank, beacon in enumerate(beacons, 1):
        contact, intervals, sizes = beacon.contact, beacon.regularity.intervals, beacon.regularity.sizes
        ports = ",".join(map(str, contact.ports))
        table.add_row(
            str(rank),
            f"{beacon.score:.2f}",
            escape(beacon.host),
            escape(f"{_replace_unprintable(beacon.destination)}{f':{ports}' if ports else ''}"),
            beacon.key,
            f"{contact.count:,}",
            f"{intervals.median:,.0f} s ±{intervals.deviation:,.0f}",
            f"{sizes.median:,.0f} ±{sizes.deviation:,.0f}",
            f"{contact.bytes_sent:,}",
            f"{beacon.prevalent_hosts:,} ({beacon.prevalence:.0%})",
            _format_age(beacon.age_seconds),
            f"{to_time(contact.first_ns):%m-%d %H:%M}",
            f"{to_time(contact.last_ns):%m-%d %H:%M}",
            escape(_replace_unprintable(_format_names(beacon))),
        )
    make_console().print(table)


def _format_names(beacon: Beacon) -> str:
    """Give the server names that the row lacks, and say which may be a disguise."""
    names = [name for name in beacon.contact.names if name != beacon.destination and name not in beacon.names_elsewhere]
    if len(names) > _SHOWN_NAMES:
        names[_SHOWN_NAMES:] = ["\N{HORIZONTAL ELLIPSIS}"]
    parts = [f"{', '.join(beacon.names_elsewhere)}, which other hosts reach elsewhere"] if beacon.names_elsewhere else []
    return "; ".join([*parts, ", ".join(names)] if names else parts)


def _format_age(seconds: float) -> str:
    days = seconds / _DAY_SECONDS
    return f"{days:.1f} d" if days >= 1 else f"{seconds / 3_600:.1f} h"


def _replace_unprintable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
