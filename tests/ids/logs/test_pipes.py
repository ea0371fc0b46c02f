import os
import tempfile
import threading
from pathlib import Path

import pytest

from mods_grpc.errors import DataError
from mods_grpc.ids.logs.pipes import copying_pipes

LINE = b'{"ts":1}\n'


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "conn.log"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(LINE,))
    writer.start()
    yield path
    writer.join(10)


@pytest.fixture
def no_temporary_folder(monkeypatch):
    def fail():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", fail)


def test_a_pipe_becomes_a_file_until_it_was_read(pipe):
    with copying_pipes([pipe]) as (copy,):
        assert copy.read_bytes() == LINE
        assert copy.name == "conn.json"
    assert not copy.exists()


def test_files_need_no_temporary_folder(tmp_path, no_temporary_folder):
    paths = [tmp_path, tmp_path / "absent.log", Path(__file__)]
    with copying_pipes(paths) as same:
        assert same == paths


def test_a_pipe_that_can_be_copied_nowhere_is_refused_with_what_to_do(pipe, no_temporary_folder):
    with pytest.raises(DataError, match=r"is a pipe and could not be copied to a file: .* TMPDIR"), copying_pipes([pipe]):
        pass
    pipe.read_bytes()  # lets the writer end
