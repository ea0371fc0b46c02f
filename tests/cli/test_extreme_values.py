"""The least and greatest values that flags accept, against a real server: each works, or fails in one line."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from tests.support.models.tiny import FEATURES, SLIDE, publish_tiny
from tests.support.running_server import RunningServer, running_server

START = datetime(2019, 1, 1, tzinfo=UTC)
MAX = 2**31 - 1

DETECTION = {
    "--false-alarms-per-day": ["5e-324", "1e-300", "143.99", "144", "86400"],
    "--significance": ["5e-324", "1e-300", "0.9999999999999999"],
    "--impute-rows": ["0", "144", "145", MAX],
    "--model-version": ["1", MAX],
    "--timeout": ["86400"],
}
REPLAY = DETECTION | {"--speed": ["1e9"], "--lateness": ["0", "366d"], "--window": ["1h", "366d"], "--sensor": ["x" * 112]}
EXTREMES = {
    "detect": DETECTION | {"--judge-rows": ["1", MAX], "--series": ["x" * 128, "x" * 129, "ä" * 65]},
    "stream": DETECTION | {"--sensor": ["x" * 112], "--series": ["x" * 128, "x" * 129]},
    "forecast": {
        "--steps": ["1", "3", "4", MAX],
        "--coverage": ["5e-324", "1e-300", "0.9999999999999999"],
        "--timeout": ["86400"],
    },
    "replay": REPLAY,
}
CASES = [(command, flag, str(value)) for command, flags in EXTREMES.items() for flag, values in flags.items() for value in values]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("repository")
    publish_tiny(folder)
    with running_server(repository=folder) as running:
        yield running


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = np.random.default_rng(7).gamma(50.0, 20.0, (40, 2)).round()
    lines = ["\t".join(("window_start", *FEATURES))]
    for index, (first, second) in enumerate(values.tolist()):
        if index not in (20, 21):  # a gap to impute
            lines.append(f"{START + timedelta(seconds=SLIDE * index):%Y-%m-%dT%H:%M:%S}\t{first:g}\t{second:g}")
    path = tmp_path_factory.mktemp("table") / "rows.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("command", "flag", "value"), CASES)
def test_an_extreme_value_works_or_fails_in_one_line(
    server: RunningServer, table: Path, capsys: pytest.CaptureFixture[str], command: str, flag: str, value: str
) -> None:
    code = main([command, str(table), "--address", server.address, flag, value])
    error = capsys.readouterr().err
    assert code in (EXIT_OK, EXIT_FAILED)
    if code == EXIT_FAILED:
        lines = [line for line in error.splitlines() if not line.startswith("hint: ")]
        assert len(lines) == 1, error
        assert lines[0].startswith("error: ")
    else:
        assert "error: " not in error


@pytest.mark.parametrize("value", ["0", "1e-300", "0.09", "86401"])
def test_a_time_limit_in_which_no_answer_can_come_is_refused(capsys: pytest.CaptureFixture[str], value: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["models", "--timeout", value])
    assert end.value.code == EXIT_USAGE
    assert "error: --timeout: " in capsys.readouterr().err
