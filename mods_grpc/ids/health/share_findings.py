"""Findings about the share of lines and records of the last hour that were dropped."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mods_grpc.ids.alerts.notice import NoticeCode
from mods_grpc.ids.health.facts import ReadFacts
from mods_grpc.ids.health.findings import HOUR_SECONDS, Finding, OpenNotices, format_share
from mods_grpc.ids.health.networks import merge_networks, propose_networks
from mods_grpc.ids.logs.zeek_fields import ONE_HOST_LOGS

MIN_RECORDS = 100  # fewer say nothing about a share
BUCKET_SECONDS = 60.0
MAX_SHARES = {NoticeCode.RECORDS_MALFORMED: 0.05, NoticeCode.RECORDS_LATE: 0.05, NoticeCode.RECORDS_REMOTE: 0.5}
LOCALITY_SHARE = 0.01  # of a protocol's records
RELEASE = 0.5  # an open notice stays open above this part of its share
_TOTALS = ("read", "malformed", "late", "remote")


@dataclass(kw_only=True, slots=True)
class _Bucket:
    """What was added in about a minute, and how many seconds ago it began. Keys are `_TOTALS` and protocols."""

    age: float
    start_ns: int
    counts: dict[str, int]


class ShareFindings:
    """Follows the shares of dropped lines and records over an hour.

    Args:
        notices: The open notices, for the hysteresis.
    """

    def __init__(self, notices: OpenNotices) -> None:
        self._notices = notices
        self._buckets: deque[_Bucket] = deque()
        self._before: dict[str, int] = {}

    def begin(self, facts: ReadFacts) -> None:
        """Leave out of the shares what was read before now."""
        self._before = _totals(facts)

    def observe(self, now_ns: int, elapsed_seconds: float, facts: ReadFacts) -> None:
        """Take note of what was read; arguments as of `LogFindings.observe`."""
        totals = _totals(facts)
        for bucket in self._buckets:
            bucket.age += elapsed_seconds
        while self._buckets and self._buckets[0].age > HOUR_SECONDS:
            self._buckets.popleft()
        added = {key: number - self._before.get(key, 0) for key, number in totals.items()}
        self._before = totals
        added = {key: number for key, number in added.items() if number > 0}
        if not added:
            return
        if not self._buckets or self._buckets[-1].age >= BUCKET_SECONDS:
            self._buckets.append(_Bucket(age=0.0, start_ns=now_ns, counts={}))
        counts = self._buckets[-1].counts
        for key, number in added.items():
            counts[key] = counts.get(key, 0) + number

    def find(self, facts: ReadFacts) -> Iterator[Finding]:
        """Yield the findings of now."""
        totals = {key: self._total(key) for key in _TOTALS}
        records = totals["read"] - totals["malformed"]
        # those of them that the notices on locality are about
        unflagged = sum(self._total(f"unflagged {name}") for name in facts.unflagged_remote) if facts.public_local else 0
        for code, part, whole, text, hint in (
            (
                NoticeCode.RECORDS_MALFORMED,
                totals["malformed"],
                totals["read"],
                "the lines of the last hour are malformed",
                "see the reasons in the account, and whether the log is of another format or written by two writers",
            ),
            (
                NoticeCode.RECORDS_LATE,
                totals["late"],
                max(records, totals["late"]),  # which may have been read earlier
                "the records of the last hour came after their windows were complete",
                "see the clocks of the sensors, and raise --lateness if their logs arrive that late",
            ),
            (
                NoticeCode.RECORDS_REMOTE,
                totals["remote"] - unflagged,
                records,
                "the records of the last hour have neither end in the local networks",
                self._explain_remote(facts),
            ),
        ):
            if self._exceeds(code, part, whole):
                message = f"{_share(part, whole)} of {text} ({part:,} of {whole:,})"
                yield Finding(code=code, since_ns=self._open_since("read"), message=message, hint=hint)
        if facts.public_local:
            yield from self._find_locality(facts)

    def _find_locality(self, facts: ReadFacts) -> Iterator[Finding]:
        for protocol in facts.unflagged_remote.keys() - ONE_HOST_LOGS:  # which may be about a host elsewhere alone
            part, whole = self._total(f"unflagged {protocol}"), self._total(f"records {protocol}")
            if self._exceeds(NoticeCode.LOCALITY_UNKNOWN, part, whole, protocol):
                networks = propose_networks(facts.public_local)
                yield Finding(
                    code=NoticeCode.LOCALITY_UNKNOWN,
                    subject=protocol,
                    since_ns=self._open_since(f"unflagged {protocol}"),
                    message=f"{_share(part, whole)} of the {protocol} records of the last hour were not counted: their log "
                    f"does not say which addresses are local, and public ones such as {min(facts.public_local)} are",
                    hint=f"name your own networks, for example --local {' '.join(networks)}",
                )

    def _explain_remote(self, facts: ReadFacts) -> str:
        if not facts.public_local:
            return "see whether --local names your own networks"
        flagged = ", ".join(map(str, merge_networks(facts.public_local)))
        return f"see whether --local names your own networks; the log calls {flagged} local"

    def _exceeds(self, code: NoticeCode, part: int, whole: int, subject: str = "") -> bool:
        """Return whether a share is beyond its limit; few records say nothing, and clear nothing."""
        is_open = self._notices.is_open(code, subject)
        if whole < MIN_RECORDS and (not is_open or not whole):
            return is_open
        return part > MAX_SHARES.get(code, LOCALITY_SHARE) * (RELEASE if is_open else 1.0) * whole

    def _total(self, key: str) -> int:
        return sum(bucket.counts.get(key, 0) for bucket in self._buckets)

    def _open_since(self, key: str) -> int:
        return next((bucket.start_ns for bucket in self._buckets if key in bucket.counts), 0)

    def state(self) -> list[Any]:
        """Return the state as values for JSON."""
        return [[bucket.age, bucket.start_ns, bucket.counts] for bucket in self._buckets]

    def restore(self, state: list[Any]) -> None:
        """Replace the state by what `state` returned."""
        self._buckets = deque(_Bucket(age=age, start_ns=start, counts=counts) for age, start, counts in state)


def _totals(facts: ReadFacts) -> dict[str, int]:
    totals = {"read": facts.records + facts.malformed, "malformed": facts.malformed, "late": facts.late}
    totals |= {"remote": facts.remote}
    totals |= {f"records {protocol}": number for protocol, number in facts.records_by_protocol.items()}
    return totals | {f"unflagged {protocol}": number for protocol, number in facts.unflagged_remote.items()}


def _share(part: int, whole: int) -> str:
    return format_share(part / whole if whole else 0.0)
