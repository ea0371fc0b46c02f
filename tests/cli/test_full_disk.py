"""A disk that is full: each command names the file that it could not write."""

from pathlib import Path

import pytest

from mods_grpc.atomic_file import write_atomically, write_new
from mods_grpc.data.datapool_writer import DatapoolWriter
from mods_grpc.features import ALL_FEATURES, AggregateRow
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.alerts.sinks.spool import Spool
from mods_grpc.ids.logs.quarantine import Quarantine
from mods_grpc.ids.watch.checkpoint import Checkpoint
from tests.support.alerts.sample_alerts import ALERT
from tests.support.ids.full_disk import full_disk


def aggregate_a_row(folder: Path) -> None:
    values = dict.fromkeys((feature.key for feature in ALL_FEATURES.features), 1.0)
    with DatapoolWriter(folder, 3_600, 600, ["conn"], by_series=False) as writer:
        writer.write(AggregateRow(start_ns=0, series="site", values=values))
        writer.close(["conn"])


def quarantine_a_line(path: Path) -> None:
    with Quarantine(path) as quarantine:
        quarantine.write(path, "no JSON", b"x" * 1_000)


WRITES = {
    "atomic": lambda path: write_atomically(path, b"x" * 1_000),
    "new": lambda path: write_new(path, b"x" * 1_000),
    "alerts": lambda path: FileSink(path, FORMATS["eve"]).write(ALERT),
    "spool": lambda path: Spool(path, lambda _id, _message: None).put("id", b"x" * 1_000),
    "quarantine": quarantine_a_line,
    "datapool": aggregate_a_row,
    "checkpoint": lambda path: Checkpoint(path).save({"x": "x" * 1_000}),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, write) -> None:
    with pytest.raises(OSError, match=r"File too large|No space left") as caught, full_disk(limit_bytes=100):
        write(tmp_path / "output")
    assert str(caught.value.filename).startswith(str(tmp_path))
