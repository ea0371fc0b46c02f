"""What is wrong with options, paths and data is said before libraries are loaded that take seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.cli.main import COMMANDS

SLOW = ("tensorflow", "keras", "sklearn", "lightgbm", "statsmodels")
PROGRAM = """
import json, sys
from training.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(json.dumps([code, [name for name in {slow!r} if name in sys.modules]]))
"""


def run(*words: str) -> tuple[int, list[str], str]:
    """Run a command line; return its exit code, the slow libraries that it loaded, and what it said of errors."""
    program = PROGRAM.format(slow=SLOW)
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=120)
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    return code, loaded, done.stderr


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_wrong_option_loads_nothing_slow(command: str) -> None:
    code, loaded, errors = run(command, "--no-such-option")
    assert (code, loaded) == (2, [])
    assert errors.startswith("error: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "--csv", "none.tsv"], "none.tsv: No such file"),
        (["compare", "--csv", "none.tsv"], "none.tsv: No such file"),
        (["search", "--csv", "none.tsv"], "none.tsv: No such file"),
        (["select-features", "--csv", "none.tsv"], "none.tsv: No such file"),
        (["export", "--run", "none", "--model", "x"], "none is not a run directory"),
        (["evaluate", "--csv", "none.tsv", "--model", "none/x/1"], "no model version none/x/1"),
        (["recalibrate", "--csv", "none.tsv", "--model", "none/x/1", "--calibration-time-range", "2024"], "no model version"),
    ],
)
def test_an_absent_file_is_named_before_anything_slow_is_loaded(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, loaded, errors = run(*words)
    assert (code, loaded) == (1, [])
    assert message in errors
