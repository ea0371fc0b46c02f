"""`mods-grpc replay`: when its recording is long enough to judge the model, and what it says of folders."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_FAILED, EXIT_OK
from tests.support.ids import live_day

DAY = 24 * 60
HOSTS = live_day.HOSTS


def write_table(path, hosts, minutes):
    """Write windows of which a third are far outside the training range, one a minute."""
    begin = datetime(2026, 3, 2, tzinfo=UTC)
    lines = ["window_start,host,conn_in,ssh_in"]
    for minute in range(minutes):
        value = 9_000 if minute % 30 < 10 else 1_000 + minute % 7
        when = (begin + timedelta(minutes=minute)).isoformat()
        lines += [f"{when},{host},{value},1000" for host in range(hosts)]
    path.write_text("\n".join(lines) + "\n")
    return path


# windows are of 20 minutes, so that the last of a day begins 20 minutes before its end
@pytest.mark.parametrize(
    ("hosts", "minutes", "status"), [(1, DAY - 20, EXIT_DOUBTFUL), (5, DAY // 2, EXIT_OK), (1, DAY // 2, EXIT_OK)]
)
def test_a_model_that_does_not_fit_a_recording_of_a_day_is_doubtful_whatever_the_number_of_series(
    server, tmp_path, capsys, hosts, minutes, status
):
    table = write_table(tmp_path / "rows.csv", hosts, minutes)
    assert main(["replay", str(table), "--server", server, "--series-column", "host", "--dry-run", "--json"]) == status
    doubts = json.loads(capsys.readouterr().out.splitlines()[-1])["account"]["doubts"]
    severe = {doubt["severe"] for doubt in doubts if doubt["code"] == "model_unfit"}
    assert severe == {status == EXIT_DOUBTFUL}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """The datapool of two hosts, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("by_host")
    (folder / "logs").mkdir()
    entries = live_day.make_lines(45, 2.0)
    for log in live_day.COLUMNS:
        lines = [line for _, of, line in entries if of == log]
        (folder / "logs" / f"{log}.log").write_text(live_day.format_header(log) + "".join(lines))
    words = ["aggregate", folder / "logs", "--output", folder / "pool", "--window", "20m", "--slide", "1m", "--group-by", "host"]
    assert main([*map(str, words), "--local", "10.0.0.0/24"]) == 0
    return folder / "pool"


@pytest.mark.parametrize("options", [[], ["--no-rule", "all"], ["--rule", "host-scan=61"]])
def test_folders_of_series_are_named_and_one_of_them_is_asked_for(server, pool, capsys, options):
    assert main(["replay", str(pool), "--server", server, *options]) == EXIT_FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {pool} holds series folders, one for each host: give one of them, such as {pool / HOSTS[0]}"


def test_the_folder_of_a_series_is_replayed(server, pool, tmp_path, capsys):
    assert main(["replay", str(pool / HOSTS[1]), "--server", server, "--dry-run", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["account"]["judged"] > 0
    (tmp_path / "logs").mkdir()
    pool.joinpath(HOSTS[1]).rename(tmp_path / "logs" / HOSTS[1])  # beside logs, it is one of them
    (tmp_path / "logs" / "conn.log").write_text(live_day.format_header("conn"))
    assert main(["replay", str(tmp_path / "logs"), "--server", server, "--dry-run"]) == EXIT_DOUBTFUL
    assert "holds series folders" not in capsys.readouterr().err
    (tmp_path / "logs" / HOSTS[1]).rename(pool / HOSTS[1])
