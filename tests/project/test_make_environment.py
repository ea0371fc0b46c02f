"""`make` never empties what a link called like an environment leads to."""

import shutil
import subprocess

import pytest

from tests.support.paths import ROOT


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("target", "lock"), [(".venv", "dev"), (".venv-protos", "protos")])
def test_an_environment_that_is_a_symbolic_link_is_not_cleared(tmp_path, target, lock):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / target).symlink_to("elsewhere")
    (tmp_path / "requirements").mkdir()
    for name in (f"requirements/{lock}.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@" >> called\n')
    python.chmod(0o755)
    made = subprocess.run(["make", "-B", target, f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert f"{target} is a symbolic link" in made.stdout
    assert not (tmp_path / "called").exists() or "--clear" not in (tmp_path / "called").read_text()
