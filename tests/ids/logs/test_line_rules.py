"""The rules for single fields."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.line_rules import MalformedLineError

NANOS = 1_713_499_192_688_116_000


def is_refused(read, *values):
    with pytest.raises(MalformedLineError):
        read(*values)
    return True


@pytest.mark.parametrize(
    "value",
    [
        1_713_499_192.688116,
        1_713_499_192_688.116,
        1_713_499_192_688_116,
        1_713_499_192_688_116_000,
        "1713499192.688116",
        "1713499192688.116",
        "1713499192688116",
        "1.713499192688116e9",
        "2024-04-19T03:59:52.688116",
        "2024-04-19T03:59:52.688116Z",
        "2024-04-19 03:59:52.688116+00:00",
        "2024-04-19T05:59:52.688116+0200",
        "2024-04-19T03:59:52.688116000Z",
        "2024-04-19t03:59:52.688116z",
        "2024-04-19 03:59:52.688116 UTC",
        "2024-04-19 05:59:52.688116 +0200",
        "20240419T035952.688116Z",
    ],
)
def test_a_time_is_read_in_every_unit_and_spelling(value):
    assert line_rules.check_time(value, None) == NANOS


def test_whole_milliseconds_are_read():
    assert line_rules.check_time(1_713_499_192_688, None) == 1_713_499_192_688_000_000


DATES = ["2024-04-19", "20240419", "2024-W16-5", "2024-04-19T03", "2024-04-19 03:59:52 CEST"]


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -1, 0, 10**400, True, None, [], "", "yesterday", "-5", "nan", "1_713_499_192", "9" * 400, "٢٢", *DATES],
)
def test_what_is_no_time_is_refused(value):
    assert is_refused(line_rules.check_time, value, None)


@pytest.mark.parametrize(("value", "expected"), [(3.5, 3_500_000_000), ("3.5", 3_500_000_000), (0, 0), ("1.2e-05", 12_000)])
def test_a_duration_is_read_in_seconds(value, expected):
    assert line_rules.check_duration(value) == expected


@pytest.mark.parametrize("value", [-0.1, "-0.1", math.nan, "inf", 999_999_999.0, True, [1], None, 10**400, "fast"])
def test_what_is_no_duration_is_refused(value):
    assert is_refused(line_rules.check_duration, value)


@pytest.mark.parametrize("value", [1250, "1250", 1250.0, "1250.0", "1250.000000"])
def test_a_counter_is_read_from_numbers_and_text(value):
    assert line_rules.check_count(value) == 1250


@pytest.mark.parametrize(
    "value", [-1, 1.5, "1.5", 1 << 51, str(1 << 51), True, math.nan, math.inf, "9" * 5_000, "", None, [1], "٢٢"]
)
def test_what_is_no_counter_is_refused(value):
    assert is_refused(line_rules.check_count, value)


@pytest.mark.parametrize("value", [65_536, "65536", -1, "http", 22.5])
def test_what_is_no_port_is_refused(value):
    assert is_refused(line_rules.check_port, value)


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("T", True), ("true", True), ("F", False), ("false", False)])
def test_a_flag_is_read_from_truth_values_and_text(value, expected):
    assert line_rules.check_flag(value) is expected


@pytest.mark.parametrize("value", [1, 0, "yes", "", None, [True]])
def test_what_is_no_flag_is_refused(value):
    assert is_refused(line_rules.check_flag, value)


@pytest.mark.parametrize(
    ("spelling", "address"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("::FFFF:0a00:0005", "10.0.0.5"),
        ("0:0:0:0:0:ffff:a00:5", "10.0.0.5"),
        ("2001:0DB8:0000:0000:0000:0000:0000:0005", "2001:db8::5"),
        ("2001:db8::0.0.0.5", "2001:db8::5"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
    ],
)
def test_an_address_has_one_spelling(spelling, address):
    assert line_rules.check_address(spelling) == address


@pytest.mark.parametrize(
    "value", ["999.1.1.1", "evil.example", "1" * 10_000, "10.0.0.5%eth0", "", "::1%" + "a" * 99, 5, None, ["::1"]]
)
def test_what_is_no_address_is_refused(value):
    assert is_refused(line_rules.check_address, value)


@pytest.mark.parametrize(
    ("in_tsv", "in_json", "text"),
    [
        ("a.example", "a.example", "a.example"),
        (r"a\x09b", "a\tb", r"a\x09b"),
        (r"a\x07b", r"a\x07b", r"a\x07b"),
        (r"a\x07b", "a\x07b", r"a\x07b"),
        (r"a\x07b", "a\U000f0007b", r"a\x07b"),
        (r"a\x7fb", "a\x7fb", r"a\x7fb"),
        (r"\xc3\xabj", "ëj", "ëj"),
        ("ëj", "ëj", "ëj"),
        (r"hi\xe9\xff", r"hi\xe9\xff", r"hi\xe9\xff"),
        (r"hi\xE9", r"hi\xe9", r"hi\xe9"),
        ("hi\udce9", r"hi\xe9", r"hi\xe9"),
        (r"\x2d", "-", "-"),
        (r"a\\b", r"a\b", r"a\b"),
        ("a\ud800", "a\ud800", r"a\ud800"),
        ("　", "　", "　"),
    ],
)
def test_a_text_has_one_spelling_in_every_format(in_tsv, in_json, text):
    assert line_rules.parse_text(in_tsv) == text
    assert line_rules.check_text(in_json) == text


def test_a_whole_number_is_a_text_and_other_values_are_not():
    assert line_rules.check_text(1_234_567_890_123) == "1234567890123"
    for value in (None, 1.5, True, [], {}):
        assert is_refused(line_rules.check_text, value)


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_every_text_becomes_printable_enough_for_any_file(text):
    for read in (line_rules.parse_text, line_rules.check_text):
        spelled = read(text)
        spelled.encode()
        assert not any(character < " " or character == "\x7f" for character in spelled)


def test_a_damaged_field_is_counted_and_an_unset_one_is_not():
    damaged = {}
    assert line_rules.read_optional("port", line_rules.check_port, None, damaged) is None
    assert line_rules.read_optional("port", line_rules.check_port, 22, damaged) == 22
    assert damaged == {}
    assert line_rules.read_optional("port", line_rules.check_port, -1, damaged) is None
    assert damaged == {"port": 1}
