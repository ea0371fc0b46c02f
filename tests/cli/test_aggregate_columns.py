"""`mods-grpc aggregate` writes all columns, or those that are chosen."""

import pytest

from mods_grpc.cli.main import main
from mods_grpc.data.datapool_layout import JOIN_COLUMNS
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_USAGE
from mods_grpc.features.definitions import FEATURES
from mods_grpc.features.presets import PRESETS
from tests.support.ids.log_records import random_records, write_zeek_tsv


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    write_zeek_tsv(folder, random_records(1, 3_000, 4 * 3_600))
    return folder


def aggregate(logs, folder, *words):
    """Return the exit status, and the cells of the site's tables by protocol, the header first."""
    status = main(["aggregate", str(logs), "--output", str(folder), "--local", "10.0.0.0/8", "fd00::/8", *words])
    tables = {path.parts[-5]: [line.split("\t") for line in path.read_text().splitlines()] for path in folder.rglob("*.tsv")}
    return status, tables


def columns_of(tables):
    return {f"{protocol}|{column}" for protocol, lines in tables.items() for column in lines[0][len(JOIN_COLUMNS) :]}


def test_all_columns_are_written_and_a_choice_has_the_same_values(logs, tmp_path):
    status, everything = aggregate(logs, tmp_path / "all")
    assert status == 0
    assert columns_of(everything) == {feature.key for feature in FEATURES if feature.protocol in everything}
    for name, words in (("preset", ["--preset", "outward"]), ("columns", ["--columns", *PRESETS["outward"].keys])):
        status, chosen = aggregate(logs, tmp_path / name, *words)
        assert status == 0
        assert columns_of(chosen) == set(PRESETS["outward"].keys)
        for protocol, lines in chosen.items():
            of_all = [everything[protocol][0].index(column) for column in lines[0]]
            assert [[cells[at] for at in of_all] for cells in everything[protocol]] == lines


def test_columns_that_do_not_exist_or_are_of_logs_that_are_not_read_are_refused(logs, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        aggregate(logs, tmp_path / "pool", "--columns", "conn|out_failed", "conn|in_connection")
    assert ended.value.code == EXIT_USAGE
    assert capsys.readouterr().err.startswith(
        "error: --columns: expected columns that `mods-grpc features` lists, such as conn|in_connections, conn|out_connections, "
        "conn|internal_connections, found 'conn|in_connection'\n"
    )
    assert aggregate(logs, tmp_path / "pool", "--preset", "outward", "--protocols", "sip")[0] == EXIT_USAGE
    assert "expected one of those of the columns, conn, dns, ssl" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        aggregate(logs, tmp_path / "pool", "--preset", "site", "--columns", "ssh|in")
    assert not (tmp_path / "pool").exists()


def test_a_log_of_named_columns_that_is_missing_is_a_doubt_and_one_of_a_preset_is_not(tmp_path, capsys):
    records = [record for record in random_records(1, 2_000, 4 * 3_600) if record.protocol != "ssl"]
    (tmp_path / "logs").mkdir()
    write_zeek_tsv(tmp_path / "logs", records)
    assert aggregate(tmp_path / "logs", tmp_path / "preset", "--preset", "outward")[0] == 0
    status, tables = aggregate(tmp_path / "logs", tmp_path / "named", "--columns", "ssl|out_failed", "conn|out_failed")
    assert status == EXIT_DOUBTFUL
    assert columns_of(tables) == {"conn|out_failed"}
