"""Doubts: why what was read can't be trusted, what is probably wrong, and what to do about it.

A severe doubt makes a command end with exit status 3. It is severe when nothing was read; when more than `MAX_DROPPED_SHARE` of
the lines is malformed, or of the records late or over the limit of series; when more than `MAX_REMOTE_SHARE` of the records, of
all or of one protocol, has neither end local; when a file can't be opened, or a protocol that is needed has no record; when the
logs' clock is ahead; and when no window was computed or judged. Smaller shares are warnings, from `MIN_DROPPED_SHARE` and
`MIN_REMOTE_SHARE` on.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.ids.health.account import (
    MAX_NAMES,
    Account,
    RejectedExample,
    count_noun,
    format_age,
    format_left_out,
    format_nanos,
    format_short_span,
)
from mods_grpc.ids.health.findings import format_share
from mods_grpc.ids.health.networks import merge_networks, propose_networks
from mods_grpc.ids.logs.line_rules import MIN_TIME_NS
from mods_grpc.ids.logs.zeek_fields import ONE_HOST_LOGS
from mods_grpc.ids.sources.log_files import COMPRESSION, UNREADABLE

MAX_DROPPED_SHARE = 0.2
MAX_REMOTE_SHARE = 0.5
MIN_DROPPED_SHARE = 0.01
MIN_REMOTE_SHARE = 0.1
MIN_PROTOCOL_RECORDS = 20  # of a protocol, before its share says something
MAX_AHEAD_SECONDS = 3_600

EXIT_HELP = (
    f"Exit status 3: finished, but what was read can't be trusted; the last line says why. Nothing was read; more than "
    f"{MAX_DROPPED_SHARE:.0%} of the lines were malformed, or of the records late or over the limit of series; more than "
    f"{MAX_REMOTE_SHARE:.0%} had neither end local; a file could not be read; or there was no window to judge."
)
"""Text for the help of commands that print doubts."""

_TIME = re.compile(r"""^\{.*?"(?:ts|timestamp|@timestamp)"\s*:\s*"?([^",}]+)|^([^\t{,]+)""")
_SPACED_CELLS = re.compile(r"^\d{9,}(?:\.\d+)?(?: +\S+){4}")
_MAX_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason not to trust what was read.

    Attributes:
        code: Its kind, such as `remote`; never changes.
        message: What is probably wrong, and what to do about it.
        is_severe: Whether the result can't be trusted at all.
    """

    code: str
    message: str
    is_severe: bool

    def to_json(self) -> dict[str, str | bool]:
        """Return the doubt as values for JSON."""
        return {"code": self.code, "message": self.message, "severe": self.is_severe}


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What was asked for.

    Attributes:
        protocols: Protocols that are read.
        needed: Those that must have records.
        needed_by: What needs them, to stand after "which", such as "--protocols names".
        local_networks: Local networks that were given.
        begin_ns, end_ns: The times of --from and --to, nanoseconds since 1970; None if not given.
        window_seconds, slide_seconds: Windows.
        lateness_seconds: Allowed lateness.
        window_rows: Windows in a row that the model needs before it judges one; 0 without a model.
        now_ns: The time now, nanoseconds since 1970.
        is_live: Whether the logs still grow, so that windows are yet to come.
        has_logs: Whether logs are read, and not windows that were recorded.
    """

    protocols: tuple[str, ...]
    needed: tuple[str, ...] = ()
    needed_by: str = "this command needs"
    local_networks: tuple[str, ...] = ()
    begin_ns: int | None = None
    end_ns: int | None = None
    window_seconds: float
    slide_seconds: float
    lateness_seconds: float
    window_rows: int = 0
    now_ns: int
    is_live: bool = False
    has_logs: bool = True


def find_doubts(account: Account, expected: Expectation) -> list[Doubt]:
    """Return the doubts about what was read; the last one is the worst."""
    finders = _FINDERS if account.records else (_damaged_files, _unread, _nothing_read)
    if not expected.has_logs:
        finders = (_recorded_windows,)
    doubts = [doubt for find in finders for doubt in find(account, expected)]
    return order_doubts(doubts)


def order_doubts(doubts: Iterable[Doubt]) -> list[Doubt]:
    """Return warnings before severe doubts, both in their order."""
    return sorted(doubts, key=lambda doubt: doubt.is_severe)


def is_doubtful(doubts: list[Doubt]) -> bool:
    """Return whether one of the doubts is severe."""
    return any(doubt.is_severe for doubt in doubts)


def format_doubts(doubts: list[Doubt]) -> str:
    """Format doubts as lines for people."""
    return "".join(f"{'doubtful' if doubt.is_severe else 'warning'}: {doubt.message}\n" for doubt in doubts)


def _nothing_read(account: Account, expected: Expectation) -> Iterator[Doubt]:
    wanted = ", ".join(expected.protocols)
    if account.rejected:
        yield from _malformed(account, expected)
    elif not account.files_read:
        rest = f": only {format_left_out(account.left_out)}" if account.left_out else ""
        yield Doubt("nothing_read", f"no log of {wanted} was there to read{rest}; is this the folder of the logs?", True)
    elif not account.lines and expected.is_live:
        yield Doubt("nothing_read", "nothing was written to the logs in this time; does the sensor run, and see traffic?", False)
    elif not account.lines:
        yield Doubt("nothing_read", f"{_files(account)} empty; does the sensor write here, and did it see traffic?", True)
    else:
        message = (
            f"none of {account.lines:,} lines is a record of {wanted}; is it the right log, and are these switched on "
            "(Suricata: types under eve-log in suricata.yaml)?"
        )
        yield Doubt("nothing_read", message, True)


def _malformed(account: Account, expected: Expectation) -> Iterator[Doubt]:
    share = account.rejected / max(1, account.rejected + account.records)
    if share < MIN_DROPPED_SHARE:
        return
    reason = max(account.malformed, key=lambda reason: account.malformed[reason])
    example = account.examples.get(reason)
    advice = _explain_malformed(reason, example, expected)
    whole = "all lines are" if not account.records else f"{format_share(share)} of the lines {_are(account.rejected)}"
    where = f", such as {_show(example)}" if example else ""
    yield Doubt("malformed", f"{whole} malformed, most for {reason}{where}: {advice}", share > MAX_DROPPED_SHARE)


def _explain_malformed(reason: str, example: RejectedExample | None, expected: Expectation) -> str:
    text = "" if example is None else example.text
    if text.count(",") >= 3 and "\t" not in text and not text.startswith("{"):
        return "this is CSV; give the log as Zeek or Suricata wrote it (TSV with its #fields line, or JSON)"
    if text.count("\0") * 3 > len(text):
        return "this is UTF-16, as some editors save text; give the file as Zeek or Suricata wrote it, or convert it to UTF-8"
    if reason == "header" and "\t" not in text and _SPACED_CELLS.search(text):
        return "spaces stand where Zeek writes tabs, as after copying from a terminal; give the file itself"
    if sum(
        character == "\N{REPLACEMENT CHARACTER}" or not (character.isprintable() or character == "\t") for character in text
    ) * 8 > len(text):
        return "this is no text; a capture of packets goes through Zeek or Suricata first, and their logs come here"
    if reason == "time":
        return _explain_time(text, expected.now_ns)
    return {
        "header": "the lines need their #fields line above them; give the whole file, not a part of it",
        "columns": "the number of cells is not that of the #fields line; was the file edited, joined or cut?",
        "json": "the lines are not whole JSON objects; was the file cut, or written by two writers?",
        "long": "lines of more than 1 MiB are no records; is it the right file?",
        "no _path": "the lines do not say of which log they are; give it as a file with its usual name, such as conn.log",
        "address": "a record needs two addresses; are they masked, or is it another log?",
    }.get(reason, "is it a log of Zeek or Suricata, and whole?")


def _explain_time(text: str, now_ns: int) -> str:
    match = _TIME.match(text)
    cell = (match[1] or match[2]) if match else ""
    try:
        seconds = float(cell)
    except ValueError:
        return "write times as seconds since 1970 or ISO 8601, as Zeek and Suricata do"
    if seconds * NANOS_PER_SECOND < MIN_TIME_NS:
        return f"the clock of the sensor was not set; {cell} is before 2000"
    if seconds > 1e11:
        return f"{cell} is not in seconds but in smaller units; have the sensor or shipper write seconds"
    if seconds * NANOS_PER_SECOND > now_ns:
        ahead = format_age(now_ns, round(seconds) * NANOS_PER_SECOND)
        return f"the record is {ahead} of this machine's clock; set the clock of the sensor, or this one"
    return "set the clock of the sensor"


def _before_begin(account: Account, expected: Expectation) -> Iterator[Doubt]:
    if account.before_begin and not account.added and expected.begin_ns is not None:
        share = format_share(account.before_begin / account.records)
        message = f"--from {format_nanos(expected.begin_ns)} leaves out {share} of the records; the newest is of " + format_nanos(
            account.newest_ns
        )
        yield Doubt("before_begin", message, True)


def _remote(account: Account, expected: Expectation) -> Iterator[Doubt]:
    placed = account.added + account.over_series_limit + account.remote
    share = account.remote / max(1, placed)
    is_severe = share > MAX_REMOTE_SHARE
    min_share = MIN_DROPPED_SHARE if account.public_local else MIN_REMOTE_SHARE
    if share < min_share or (not is_severe and any(_unflagged(account, expected))):
        return
    yield Doubt("remote", f"{format_share(share)} of the records {_neither_local(account, expected)}", is_severe)


def _unflagged(account: Account, expected: Expectation) -> Iterator[Doubt]:
    """Doubt protocols that lose records with neither end local while others do not: their log has no local flags."""
    shares = {
        protocol: account.remote_by_protocol.get(protocol, 0) / number
        for protocol, number in account.records_by_protocol.items()
        if number and protocol not in ONE_HOST_LOGS  # which may be about a host elsewhere alone
    }
    lost = sorted(
        protocol
        for protocol, share in shares.items()
        if share > MAX_REMOTE_SHARE and account.records_by_protocol[protocol] >= MIN_PROTOCOL_RECORDS
    )
    if not lost or min(shares.values()) > MAX_REMOTE_SHARE:
        return
    number = sum(account.remote_by_protocol[protocol] for protocol in lost)
    names = ", ".join(lost)
    if account.public_local and any(account.unflagged_remote.get(protocol) for protocol in lost):
        message = (
            f"{number:,} records of {names} do not count: these logs do not say which addresses are local, and other logs call "
            f"public ones local; give --local {_propose(account)}, corrected to your networks"
        )
    else:
        message = f"{number:,} records of {names} {_neither_local(account, expected)}"
    yield Doubt("unflagged", message, True)


def _neither_local(account: Account, expected: Expectation) -> str:
    if expected.local_networks:
        shown = ", ".join(expected.local_networks[:MAX_NAMES]) + (", …" if len(expected.local_networks) > MAX_NAMES else "")
        question = f"have neither end in {shown}: is --local right?"
        return (
            f"{question} The log calls {', '.join(map(str, merge_networks(account.public_local)))} local"
            if account.public_local
            else question
        )
    if account.public_local:
        flag = f"--local {_propose(account)}"
        return f"have neither end local; the log calls some public addresses local: give {flag}, corrected to your networks"
    return "have neither end in the private networks, and their log does not say which are local: give your networks with --local"


def _propose(account: Account) -> str:
    return " ".join(propose_networks(account.public_local))


def _too_late(account: Account, expected: Expectation) -> Iterator[Doubt]:
    share = account.late / account.records
    if share >= MIN_DROPPED_SHARE:
        message = (
            f"{format_share(share)} of the records came over {format_short_span(expected.lateness_seconds)} after newer ones and "
            "do not count: are the clocks of the sensors right, all files of one time given at once, and the logs in the order "
            "in which they were written, not sorted? --lateness allows more"
        )
        yield Doubt("late", message, share > MAX_DROPPED_SHARE)


def _over_limit(account: Account, _expected: Expectation) -> Iterator[Doubt]:
    share = (account.over_series_limit + account.partly_over_limit) / account.records
    if share >= MIN_DROPPED_SHARE:
        message = (
            f"{format_share(share)} of the records are of series over the limit: give your own networks with --local, or group "
            "by more than a host (--group-by subnet)"
        )
        yield Doubt("over_series_limit", message, share > MAX_DROPPED_SHARE)


def _missing(account: Account, expected: Expectation) -> Iterator[Doubt]:
    missing = [protocol for protocol in expected.needed if not account.records_by_protocol.get(protocol)]
    rejected = [protocol for protocol in missing if account.malformed_by_log.get(protocol)]
    absent = [protocol for protocol in missing if protocol not in rejected]
    if rejected:
        reason = max(account.malformed, key=lambda reason: account.malformed[reason])
        message = f"all lines of {', '.join(rejected)} are malformed ({reason}): see why, or what is computed from them is wrong"
        yield Doubt("missing", message, True)
    if absent:
        what = f"no record of {', '.join(absent)}, which {expected.needed_by}"
        message = f"{what}; does the sensor log that, and are its files among those given?"
        yield Doubt("missing", message, True)


def _windows(account: Account, expected: Expectation) -> Iterator[Doubt]:
    if not account.added or account.dropped.get("late", 0) > account.added:
        return
    span = (account.newest_ns - account.oldest_ns) / NANOS_PER_SECOND
    needed = expected.window_seconds + expected.slide_seconds * max(0, expected.window_rows - 1)
    if expected.is_live and span < needed + expected.slide_seconds + expected.lateness_seconds:
        return
    covered = f"the records that count are from {format_nanos(account.oldest_ns)} to {format_nanos(account.newest_ns)}"
    if not account.windows:
        if expected.end_ns is not None and expected.end_ns < account.oldest_ns + expected.window_seconds * NANOS_PER_SECOND:
            advice = f"--to {format_nanos(expected.end_ns)} leaves no window"
        else:
            advice = f"no window of {format_short_span(expected.window_seconds)} is complete; give longer logs" + (
                ", or a shorter --window" if not expected.window_rows else ""
            )
        yield Doubt("no_window", f"{covered}: {advice}", True)
    elif account.judged == 0:
        yield Doubt("not_judged", f"{_not_judged(account, expected)}; {covered}", True)


def _recorded_windows(account: Account, expected: Expectation) -> Iterator[Doubt]:
    if not account.windows:
        yield Doubt("nothing_read", "no window was read; is it the right file or folder?", True)
    elif account.judged == 0:
        yield Doubt("not_judged", _not_judged(account, expected), True)


def _not_judged(account: Account, expected: Expectation) -> str:
    span = format_short_span(expected.slide_seconds)
    needed = f"the model needs {expected.window_rows} before it in a row, {span} apart, without a gap"
    return f"none of {count_noun(account.windows, 'window')} was judged: {needed}"


def _ahead(account: Account, expected: Expectation) -> Iterator[Doubt]:
    if account.ahead:  # then the newest record is one of these
        held = count_noun(account.ahead, "record")
        message = f"{held} more than an hour ahead of all others, held and not counted: is the clock of a sensor wrong?"
        yield Doubt("ahead", message, False)
    elif account.newest_ns > expected.now_ns + MAX_AHEAD_SECONDS * NANOS_PER_SECOND:
        message = (
            f"the newest record is of {format_nanos(account.newest_ns)}, {format_age(expected.now_ns, account.newest_ns)} of "
            "this machine's clock: set the clock or time zone of the sensor, or of this machine"
        )
        yield Doubt("ahead", message, True)


def _damaged_fields(account: Account, _expected: Expectation) -> Iterator[Doubt]:
    for name, number in sorted(account.damaged_fields.items()):
        if (share := number / account.records) >= MIN_DROPPED_SHARE:
            message = (
                f"{name} could not be read in {format_share(share)} of the records, which count without it: see the writer of "
                "the log"
            )
            yield Doubt("damaged_fields", message, share > MAX_DROPPED_SHARE)


def _unset(account: Account, expected: Expectation) -> Iterator[Doubt]:
    """Doubt columns that are made from a field that no record had."""
    for unset in account.unset:
        columns = ", ".join(unset.columns[:MAX_NAMES]) + (", …" if len(unset.columns) > MAX_NAMES else "")
        if expected.window_rows:
            verb = "needs" if len(unset.columns) == 1 else "need"
            message = f"{unset.description}, which the model's {columns} {verb}: have the sensor log it, or use another model"
        else:
            message = f"{unset.description}: {columns} read as 0; leave them out of a model, or have the sensor log it"
        yield Doubt("unset", message, bool(expected.window_rows))


def _blind_rules(account: Account, _expected: Expectation) -> Iterator[Doubt]:
    """Doubt the silence of rules that count by a field that no record had."""
    for unset in account.blind_rules:
        names = " and ".join(unset.columns)
        flags = " ".join(f"--no-rule {name}" for name in unset.columns)
        message = f"{unset.description}: {names} can't raise an alert; have the sensor log it, or switch off with {flags}"
        yield Doubt("rules_blind", message, is_severe=False)


def _full_rules(account: Account, _expected: Expectation) -> Iterator[Doubt]:
    """Doubt the silence of rules that had no room for all own hosts."""
    if account.rules_over_limit:
        message = (
            f"the fixed rules dropped the {count_noun(account.rules_over_limit, 'host')} with the smallest counts, because there "
            "were more than they have room for: are so many addresses own hosts, or are they forged? See --local"
        )
        yield Doubt("rules_over_limit", message, is_severe=False)


def _damaged_files(account: Account, _expected: Expectation) -> Iterator[Doubt]:
    for reason, number in account.damaged_files.items():
        name = account.first_damaged.get(reason, "")
        if reason == "truncated file":
            continue  # by logrotate's copytruncate; what came after it was read
        is_severe = reason == "unreadable file" or number >= account.files_read or not account.records
        text, pronoun = (f"{number} of {account.files_read} files", "them") if number > 1 else (name, "it")
        message = f"{text} could not be read to the end ({reason}): get {pronoun} again, and see the disk's space"
        if reason == "unreadable file":
            message = f"{text} could not be opened: let this user read {pronoun}"
        yield Doubt("damaged_files", message, is_severe)


def _unused(account: Account, expected: Expectation) -> Iterator[Doubt]:
    if account.unused:
        names = ", ".join(account.unused[:MAX_NAMES]) + (", …" if len(account.unused) > MAX_NAMES else "")
        yield Doubt("unused", f"{names}: no log of {', '.join(expected.protocols)} to read; is that the right path?", True)


def _overlapping(account: Account, _expected: Expectation) -> Iterator[Doubt]:
    if account.overlapping:
        one, other = account.overlapping[0]
        more = f", as in {len(account.overlapping) - 1:,} more files" if len(account.overlapping) > 1 else ""
        message = f"{one} and {other} share some of their records, which count twice{more}: give one of the two folders alone"
        yield Doubt("overlapping", message, True)


def _unread(account: Account, _expected: Expectation) -> Iterator[Doubt]:
    """Doubt files that hold wanted logs and were left out because they can't be read."""
    unread = [file for file in account.left_out if _is_unread(file.reason)]
    if unread:
        message = (
            f"{format_left_out(unread)}: let this user read them, or give them in another form; what they hold does not count"
        )
        yield Doubt("unread", message, True)


def _is_unread(reason: str) -> bool:
    return reason in {UNREADABLE, COMPRESSION}


def _files(account: Account) -> str:
    return "the file is" if account.files_read == 1 else f"all {account.files_read:,} files are"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _show(example: RejectedExample) -> str:
    text = "".join(character if character.isprintable() else " " for character in example.text[:_MAX_SHOWN_CHARACTERS])
    return f"{example.file}: '{text.strip()}{'…' if len(example.text) > _MAX_SHOWN_CHARACTERS else ''}'"


_FINDERS: tuple[Callable[[Account, Expectation], Iterator[Doubt]], ...] = (
    *(_blind_rules, _full_rules, _unset, _damaged_fields, _damaged_files, _unused, _overlapping, _unread, _ahead, _windows),
    *(_over_limit, _too_late, _missing, _malformed, _unflagged, _remote, _before_begin),
)
"""Finders of doubts; where several are severe, the cause comes after its consequences."""
