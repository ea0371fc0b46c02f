"""Contracts of alert formats and log readers; the recipes in docs/contributing end with these checks."""

import re
from pathlib import PurePath

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mods_grpc.features.records import PROTOCOLS
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser
from tests.support.alerts.sample_alerts import (
    ALERT,
    CLEARED,
    END,
    HOST,
    NOTICE,
    RULE,
    RULE_END,
    UPDATE,
    hostile_alerts,
    hostile_notices,
    hostile_rule_alerts,
)

EXAMPLES = 60


def check_format(form):
    """Check an alert format: one printable line per alert or notice, whatever the names in it, and a header of whole lines.

    Args:
        form: The `Format`, as it stands in `FORMATS`.
    """

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(alert=st.one_of(hostile_alerts, hostile_rule_alerts, hostile_notices))
    @example(alert=ALERT)
    @example(alert=UPDATE)
    @example(alert=END)
    @example(alert=HOST)
    @example(alert=RULE)
    @example(alert=RULE_END)
    @example(alert=NOTICE)
    @example(alert=CLEARED)
    def check_line(alert):
        line = form.format(alert)
        assert isinstance(line, str)
        assert line.encode(), "a line is not empty, and is valid UTF-8"
        assert line.replace("\t", "").isprintable(), "a line holds no line break and no other control character"
        assert alert.id in line, "a receiver recognises a repeated alert by its id"
        assert form.format(alert) == line, "the same alert gives the same line"

    check_line()
    header = form.format_header()
    assert header == "" or header.endswith("\n"), "a header consists of whole lines"
    assert re.fullmatch(r"[\w.+-]+/[\w.+-]+", form.media_type)


def check_reader(name, head, lines):
    """Check that a reader turns good lines into records, and rejects bad ones without an effect on later lines.

    Args:
        name: Name of the file, from which the parser may guess the protocol.
        head: Header lines, as bytes; may be empty.
        lines: Good lines, as bytes: each is one record.
    """

    def make_parser():
        parser = LineParser(PurePath(name).name)
        for line in head:
            assert parser.parse(line) is None, "a header line is no record"
        return parser

    reasons = set()
    records = [make_parser().parse(line) for line in lines]
    for record in records:
        assert record is not None, "a good line is a record"
        assert record.protocol in PROTOCOLS
        assert isinstance(record.ts, int)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(
        line=st.one_of(
            st.binary(max_size=200),
            st.builds(lambda line, end: line[: end % (len(line) + 1)], st.sampled_from(lines), st.integers(0)),
            st.builds(
                lambda line, at, byte: line[: at % len(line)] + byte + line[at % len(line) + 1 :],
                st.sampled_from(lines),
                st.integers(0),
                st.binary(min_size=1, max_size=1),
            ),
        ).filter(lambda line: not line.startswith(b"#"))
    )
    def check_bad_line(line):
        parser = make_parser()
        try:
            parser.parse(line)
        except MalformedLineError as error:
            reasons.add(error.reason)
        assert [parser.parse(good) for good in lines] == records, "a bad line does not disturb the next one"

    check_bad_line()
    assert all(re.fullmatch(r"[a-z]+|no [a-z_.]+", reason) for reason in reasons), "a reason is a word or names a field"
