"""Reading the text of plain and compressed files, whole, cut and damaged, with few open descriptors."""

import bz2
import gzip
import io
import lzma
import os
import random
import subprocess
import sys

import pytest

from mods_grpc.ids.sources import text_file
from mods_grpc.ids.sources.text_file import TextFile, UnsupportedCompressionError, open_log
from tests.support.paths import ROOT

zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
lz4 = pytest.importorskip("lz4.frame")

COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd.compress, "lz4": lz4.compress}
DRAW = random.Random(3)
TEXT = b"".join(b"%d.%06d\tC%x\t10.0.0.%d\n" % (1_713_484_800 + i, i, DRAW.getrandbits(60), i % 255) for i in range(20_000))
LINES = b"".join(b"line %d\n" % i for i in range(12))


def read(path, data):
    path.write_bytes(data)
    with TextFile(path) as file:
        return file.read(), file.damage


@pytest.mark.parametrize("suffix", [*COMPRESS, "plain"])
def test_text_is_read_from_any_position_whatever_the_compression(tmp_path, suffix):
    path = tmp_path / "conn.log"
    path.write_bytes(COMPRESS[suffix](TEXT) if suffix in COMPRESS else TEXT)
    with TextFile(path) as file:
        assert file.read() == TEXT
        assert file.bytes_read == path.stat().st_size
        assert file.seek(100_000) == file.tell() == 100_000
        assert file.readline() == TEXT[100_000:].split(b"\n")[0] + b"\n"
        assert file.seek(10) == 10
        assert file.read(20) == TEXT[10:30]
        assert file.seek(len(TEXT) + 5) >= len(TEXT)
        assert file.read() == b""
        assert file.damage is None
        assert file.is_plain is (suffix == "plain")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_all_members_of_a_file_are_read_with_padding_between_them(tmp_path, suffix):
    members = [COMPRESS[suffix](TEXT[at : at + 100_000]) for at in range(0, len(TEXT), 100_000)]
    padding = b"\0" * 8
    assert read(tmp_path / "log", b"".join(members)) == (TEXT, None)
    assert read(tmp_path / "log", padding.join(members) + padding) == (TEXT, None)
    assert read(tmp_path / "log", COMPRESS[suffix](b"") + members[0]) == (TEXT[:100_000], None)
    text, damage = read(tmp_path / "log", b"".join(members) + b"something else")
    assert text == TEXT
    assert damage is not None


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_file_cut_at_any_byte_gives_the_text_before_the_cut(tmp_path, suffix):
    data = COMPRESS[suffix](LINES) + COMPRESS[suffix](LINES)
    path = tmp_path / f"conn.log.{suffix}"
    first = len(data) // 2
    for cut in range(len(data)):
        text, damage = read(path, data[:cut])
        assert (LINES + LINES).startswith(text)
        assert text.startswith(LINES) or cut < first
        assert (damage is None) == (cut in {0, first}), cut


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_damaged_file_gives_no_error_and_the_text_before_the_damage(tmp_path, suffix):
    data = bytearray(COMPRESS[suffix](TEXT[:300_000]) + COMPRESS[suffix](TEXT[300_000:]))
    draw = random.Random(suffix)
    for _ in range(3):
        at = draw.randrange(len(data) // 2 + 1_000, len(data))
        damaged = data.copy()
        damaged[at] ^= 1 << draw.randrange(8)
        text, damage = read(tmp_path / "log", damaged)
        assert text[:300_000] == TEXT[:300_000]
        assert damage is not None or len(text) == len(TEXT)  # zstd and lz4 without checksums may not see it


def test_what_a_decompressor_withholds_at_its_error_is_read_with_care(tmp_path):
    compress = gzip.compress(TEXT)
    whole, _ = read(tmp_path / "log", compress)
    damaged = compress[: len(compress) // 2] + b"\xff" * 100 + compress[len(compress) // 2 :]
    text, damage = read(tmp_path / "log", damaged)
    cut, _ = read(tmp_path / "log", compress[: len(compress) // 2])
    assert text[: len(cut) - 1] == whole[: len(cut) - 1]
    assert damage is not None


def test_a_skippable_part_before_and_between_members_is_skipped(tmp_path):
    skippable = b"\x50\x2a\x4d\x18" + (70_000).to_bytes(4, "little") + bytes(70_000)
    for compress in (zstd.compress, lz4.compress):
        assert read(tmp_path / "log", skippable + compress(LINES) + skippable + compress(LINES)) == (LINES + LINES, None)


@pytest.mark.parametrize(
    ("head", "name"),
    [(b"PK\x03\x04", "zip"), (b"\x1f\x9d\x90", "compress"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"LZIP\x01", "lzip")],
)
def test_a_compression_that_cannot_be_read_says_what_to_do(tmp_path, head, name):
    (tmp_path / "log").write_bytes(head + bytes(100))
    with pytest.raises(UnsupportedCompressionError, match=f"{name}: unpack it"):
        open_log(tmp_path / "log")


@pytest.mark.parametrize("suffix", ["zst", "lz4"])
def test_an_absent_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, suffix):
    (tmp_path / "log").write_bytes(COMPRESS[suffix](LINES))
    for module in ("backports", "backports.zstd", "compression.zstd", "lz4", "lz4.frame"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedCompressionError, match=r"pip install 'mods-grpc\[ids\]'"):
        open_log(tmp_path / "log")


def test_a_file_that_must_stay_open_is_read_after_it_was_renamed_and_deleted(tmp_path):
    path = tmp_path / "conn.log"
    path.write_bytes(TEXT)
    with TextFile(path, keep_open=True) as file:
        path.rename(tmp_path / "conn.1.log")
        assert file.readline() == TEXT[: TEXT.index(b"\n") + 1]
        (tmp_path / "conn.1.log").unlink()
        assert os.fstat(file.fileno()).st_size == len(TEXT)
        assert len(file.read()) == len(TEXT) - TEXT.index(b"\n") - 1


def test_a_file_replaced_while_its_descriptor_was_closed_is_damaged_not_mixed_up(tmp_path, monkeypatch):
    monkeypatch.setattr(text_file._descriptors, "_max_open", 1)
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.write_bytes(TEXT)
    with TextFile(one) as file, TextFile(other) as second:
        assert file.read(1_000) == second.read(1_000) == TEXT[:1_000]
        one.rename(tmp_path / "kept")
        one.write_bytes(b"x" * len(TEXT))
        assert TEXT[1_000:].startswith(file.read())
        assert "replaced" in file.damage


def test_the_end_of_compressed_text_cannot_be_sought(tmp_path):
    (tmp_path / "log").write_bytes(gzip.compress(TEXT))
    with TextFile(tmp_path / "log") as file, pytest.raises(io.UnsupportedOperation):
        file.seek(0, os.SEEK_END)


OPEN_MANY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from pathlib import Path
from mods_grpc.ids.sources.text_file import TextFile
files = [TextFile(path) for path in sorted(Path(sys.argv[1]).iterdir())]
for _ in range(3):
    assert all(file.readline() == b"a line\\n" for file in files)
print(len(files), sum(file.damage is None for file in files))
"""


def test_more_files_are_read_at_once_than_may_be_open(tmp_path):
    for number in range(300):
        text = b"a line\n" * 5_000
        (tmp_path / f"{number}").write_bytes(gzip.compress(text) if number % 2 else text)
    child = subprocess.run([sys.executable, "-c", OPEN_MANY, tmp_path], capture_output=True, cwd=ROOT, text=True, check=False)
    assert (child.stdout.split(), child.stderr) == (["300", "300"], "")
