"""An `aggregate` that is stopped or killed leaves no part of a datapool that could be taken for a whole one."""

import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from mods_grpc.cli.main import main
from mods_grpc.data.datapool_layout import find_unfinished
from mods_grpc.exit_codes import EXIT_DOUBTFUL
from tests.support.ids.log_records import random_records, write_zeek_tsv

RUN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a background job begins with it ignored
    "from mods_grpc.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture
def logs(tmp_path):
    """Logs with more malformed lines than a pipe holds."""
    folder = tmp_path / "logs"
    folder.mkdir()
    write_zeek_tsv(folder, random_records(1, 2_000, 5 * 3_600))
    with next(folder.glob("conn*")).open("a") as file:
        file.writelines(["malformed\n"] * 20_000)
    return folder


@contextmanager
def aggregating(logs, pool):
    """Run an aggregate that waits in the middle until its quarantine is read; yields the process and the quarantine."""
    fifo = logs.parent / "quarantine"
    os.mkfifo(fifo)
    quarantine = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    words = ["aggregate", logs, "--output", pool, "--quarantine", fifo]
    with subprocess.Popen([sys.executable, "-c", RUN, *map(str, words)], stderr=subprocess.PIPE) as process:
        try:
            assert select.select([quarantine], [], [], 60)[0]
            yield process, quarantine
        finally:
            process.kill()
            os.close(quarantine)
            fifo.unlink()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_removes_what_was_begun_and_says_so(logs, tmp_path, number, status):
    pool = tmp_path / "pool"
    with aggregating(logs, pool) as (process, quarantine):
        assert find_unfinished(pool) is not None
        process.send_signal(number)
        os.set_blocking(quarantine, True)
        while os.read(quarantine, 1 << 16):
            pass
        error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == status, error
    assert f"nothing was written to {pool}" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]


def test_what_a_killed_aggregate_left_is_removed_and_named_by_the_next(logs, tmp_path, capsys):
    pool = tmp_path / "pool"
    with aggregating(logs, pool) as (process, _):
        assert main(["aggregate", str(logs), "--output", str(pool)]) == 1
        assert "another process is writing this datapool" in capsys.readouterr().err
        process.kill()
        process.wait()
    assert find_unfinished(pool) == tmp_path / ".pool.unfinished"
    assert not pool.exists()
    assert main(["aggregate", str(logs), "--output", str(pool)]) == EXIT_DOUBTFUL  # for the malformed lines
    assert f"removed {tmp_path / '.pool.unfinished'}, which an aggregate that was killed had left" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "pool"]
