"""Findings about outputs: a destination of alerts, or the checkpoint, that can't be written."""

from collections.abc import Iterator

from mods_grpc.ids.alerts.notice import NoticeCode
from mods_grpc.ids.health.facts import ReadFacts
from mods_grpc.ids.health.findings import Finding


def find_unwritable(now_ns: int, facts: ReadFacts) -> Iterator[Finding]:
    """Yield the outputs that can't be written now.

    Args:
        now_ns: Nanoseconds since 1970.
        facts: What can't be written, and why.
    """
    for output, error in facts.unwritable.items():
        yield Finding(
            code=NoticeCode.OUTPUT_UNWRITABLE,
            subject=output,
            since_ns=now_ns,
            message=f"{output} can't be written: {error}",
            hint="free the disk or mend the permissions; what could not be written waits meanwhile, up to a limit",
        )
