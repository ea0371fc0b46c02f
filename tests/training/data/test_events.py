"""The table of labelled events: what is read, and what is refused with its line."""

from pathlib import Path

import numpy as np
import pytest

from mods_grpc.errors import DataError
from training.data.events import LabelledEvent, read_events

HEADER = "kind,start,end,strength,features\n"


def test_events_are_read_like_any_table(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("\ufeff" + HEADER.replace(",", ";") + "scan;2026-01-05T00:10:00Z;1767573600;0.3;conn_in ssh_in\r\n")
    assert read_events(path) == [
        LabelledEvent(
            kind="scan",
            start=np.datetime64("2026-01-05T00:10:00"),
            end=np.datetime64("2026-01-05T00:40:00"),
            strength=0.3,
            features=("conn_in", "ssh_in"),
        )
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("kind,start\n", "found no column end"),
        (HEADER + "scan,2026-01-05\n", ":2: expected 5 cells like the header, found 2"),
        (HEADER + "scan,today,2026-01-05,1,conn_in\n", ":2: expected a time"),
        (HEADER + "scan,2026-01-05,2026-01-06,much,conn_in\n", ":2: expected a number in column strength"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "events.csv").write_text(text)
    with pytest.raises(DataError, match=complaint):
        read_events(tmp_path / "events.csv")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.csv: No such file or directory"):
        read_events(tmp_path / "none.csv")
