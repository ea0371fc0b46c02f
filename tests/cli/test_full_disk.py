"""A disk that is full: each command names the file that it could not write, and goes on if that is not its result."""

from pathlib import Path

import pytest

from mods_grpc.atomic_file import write_atomically, write_new
from mods_grpc.cli.main import main
from mods_grpc.data.datapool_writer import DatapoolWriter
from mods_grpc.exit_codes import EXIT_FAILED
from mods_grpc.features import ALL_FEATURES, AggregateRow
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.alerts.sinks.spool import Spool
from mods_grpc.ids.watch.checkpoint import Checkpoint
from tests.support.alerts.sample_alerts import ALERT
from tests.support.ids.full_disk import full_disk


def aggregate_a_row(folder: Path) -> None:
    values = dict.fromkeys((feature.key for feature in ALL_FEATURES.features), 1.0)
    with DatapoolWriter(folder, 3_600, 600, ALL_FEATURES, by_series=False) as writer:
        writer.write(AggregateRow(start_ns=0, series="site", values=values))
        writer.close(["conn"])


WRITES = {
    "atomic": lambda path: write_atomically(path, b"x" * 1_000),
    "new": lambda path: write_new(path, b"x" * 1_000),
    "alerts": lambda path: FileSink(path, FORMATS["eve"]).write(ALERT),
    "spool": lambda path: Spool(path, lambda _id, _message: None).put("id", b"x" * 1_000),
    "datapool": aggregate_a_row,
    "checkpoint": lambda path: Checkpoint(path).save({"x": "x" * 1_000}),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, write) -> None:
    with pytest.raises(OSError, match=r"File too large|No space left") as caught, full_disk(limit_bytes=100):
        write(tmp_path / "output")
    assert str(caught.value.filename).startswith(str(tmp_path))


@pytest.mark.parametrize("lines", [1, 1_000])
def test_a_quarantine_that_can_not_be_written_holds_up_nothing(tmp_path: Path, capsys, lines: int) -> None:
    text = '{"ts":1772409600.5,"uid":"C","id.orig_h":"192.0.2.1","id.resp_h":"10.0.0.1"}\n' * lines * 10 + "{\n" * lines
    (tmp_path / "conn.log").write_text(text)
    words = ["aggregate", tmp_path / "conn.log", "--output", tmp_path / "pool", "--quarantine", "/dev/full", "--window", "10s"]
    assert main([*map(str, words), "--slide", "10s", "--to", "2026-03-02T00:00:20"]) == EXIT_FAILED
    errors = capsys.readouterr().err
    assert "error: /dev/full: No space left on device; malformed lines are missing there, the tables are complete" in errors
    assert list((tmp_path / "pool").rglob("*.tsv"))
