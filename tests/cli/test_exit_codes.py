"""The contract of both command lines: exit codes, and how an error is printed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mods_grpc.cli import main as serving
from mods_grpc.errors import DataError, ModelNotFoundError, Reason
from mods_grpc.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, run_command
from training.cli import main as training

MAINS = pytest.mark.parametrize("main", [serving.main, training.main], ids=["mods-grpc", "training"])


def raise_error(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("two\nlines"), EXIT_FAILED, "error: two lines\n"),
        (FileNotFoundError(2, "No such file or directory", "x.csv"), EXIT_FAILED, "error: x.csv: No such file or directory\n"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), EXIT_FAILED, "error: a and b: Invalid cross-device link\n"),
        (OSError("broken"), EXIT_FAILED, "error: broken\n"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), EXIT_FAILED, "error: expected text in UTF-8\n"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "interrupted\n"),
    ],
)
def test_an_error_becomes_one_line_and_an_exit_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raise_error(error)) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", message)


def test_a_full_standard_output_is_named() -> None:
    code = "import sys; from mods_grpc.exit_codes import run_command; sys.exit(run_command(lambda: print('x' * 100_000) or 0))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (EXIT_FAILED, "error: standard output: No space left on device\n")


def test_a_hint_follows_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    error = ModelNotFoundError(Reason.MODEL_NOT_FOUND, "no model x")
    assert run_command(raise_error(error), lambda error: f"ask for another than {error.reason}") == EXIT_FAILED
    assert capsys.readouterr().err == "error: no model x\nhint: ask for another than MODEL_NOT_FOUND\n"


def test_a_defect_passes() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(raise_error(ZeroDivisionError()))


def test_the_code_of_a_command_is_returned() -> None:
    assert run_command(lambda: EXIT_OK) == EXIT_OK


@MAINS
@pytest.mark.parametrize("words", [[], ["nothing"], ["--nothing"]])
def test_a_usage_error_exits_with_two(
    main: Callable[[list[str]], int], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == EXIT_USAGE
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (serving.main, ["detect", "absent.csv", "--address", "127.0.0.1:1"]),
        (serving.main, ["sign", "absent/1", "--key", "absent.pem"]),
        (serving.main, ["models", "--tls-ca", "absent.pem"]),
        (training.main, ["evaluate", "--model", "absent/campus/1", "--csv", "absent.csv"]),
        (training.main, ["select-features", "--csv", "absent.csv"]),
    ],
)
def test_a_command_that_fails_prints_one_error_and_exits_with_one(
    main: Callable[[list[str]], int], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == EXIT_FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert len([line for line in captured.err.splitlines() if not line.startswith("hint: ")]) == 1
