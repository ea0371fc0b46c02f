"""Names of the datapool's files and folders: written and read back."""

from datetime import date
from pathlib import Path

import pytest

from mods_grpc.data.datapool_layout import (
    DatapoolFile,
    day_file,
    format_window_slide,
    parse_path,
    parse_window_slide,
    series_folder,
)
from mods_grpc.errors import DataError


@pytest.mark.parametrize(
    ("spans", "name"),
    [
        ((3_600, 600), "w01h-s10m"),
        ((600, 60), "w10m-s01m"),
        ((86_400, 5_400), "w01d-s90m"),
        ((90, 45), "w90s-s45s"),
        ((100_001, 7), "w100001s-s07s"),
    ],
)
def test_window_and_slide_are_written_and_read_back(spans: tuple[int, int], name: str) -> None:
    assert format_window_slide(*spans) == name
    assert parse_window_slide(name) == spans


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1h", "expected the form w01h-s10m"),
        ("w01h-s10m.tsv", "expected the form w01h-s10m"),
        ("w01y-s10m", "expected the form w01h-s10m"),
        ("w10m-s01h", "not above the window"),
        ("w10m-s00m", "above 0"),
    ],
)
def test_other_names_of_a_window_and_slide_raise_data_error(name: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        parse_window_slide(name)


def test_the_path_of_a_file_is_written_and_read_back() -> None:
    path = day_file(Path("/pool/sensor"), "conn", date(2026, 1, 5), "w01h-s10m")
    assert path == Path("/pool/sensor/conn/2026/01/05/w01h-s10m.tsv")
    expected = DatapoolFile(protocol="conn", day=date(2026, 1, 5), window_slide="w01h-s10m")
    assert parse_path(path.as_posix()) == expected
    assert parse_path("conn/2026/01/05/w01h-s10m.tsv") == expected


@pytest.mark.parametrize("path", ["conn/2026/01/05/notes.tsv", "conn/2026/1/5/w01h-s10m.tsv", "2026/01/05/w01h-s10m.tsv", ""])
def test_other_paths_are_no_files_of_a_datapool(path: str) -> None:
    assert parse_path(path) is None


def test_a_day_that_does_not_exist_raises_data_error() -> None:
    with pytest.raises(DataError, match="2026/02/30 is not a day"):
        parse_path("conn/2026/02/30/w01h-s10m.tsv")


@pytest.mark.parametrize("series", ["..", ".", "../../etc/passwd", "a/b", "fe80::1", "x" * 10_000, "\x00\n", "ü"])
def test_the_folder_of_a_series_is_one_safe_name(series: str) -> None:
    name = series_folder(series)
    assert "/" not in name
    assert name not in {"", ".", ".."}
    assert len(name) <= 120
    assert name.isascii()


def test_long_names_that_differ_at_the_end_have_different_folders() -> None:
    assert series_folder("x" * 500 + "a") != series_folder("x" * 500 + "b")
