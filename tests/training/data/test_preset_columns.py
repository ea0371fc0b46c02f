import math
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.data.datapool_writer import DatapoolWriter
from mods_grpc.errors import DataError
from mods_grpc.features import ALL_FEATURES, AggregateRow, Definition
from mods_grpc.features.definitions import FEATURES, Kind
from mods_grpc.features.presets import PRESETS
from training.cli.main import build_parser
from training.cli.options import source_config
from training.data.datapool import list_columns, read_datapool
from training.data.feature import describe_column
from training.data.preset_columns import select_columns
from training.data.query import DEFAULT_QUERY, format_query, parse_query
from training.data.time_range import parse_interval

START_NS = 1_704_067_200 * NANOS_PER_SECOND  # 2024-01-01
RANGES = ["--train-time-range", "<2024-01-01,2024-01-02)", "--test-time-range", ""]


def write_pool(
    folder: Path, definition: Definition = ALL_FEATURES, *, seen: tuple[str, ...] = (), by_series: bool = False
) -> Path:
    """Write a datapool of an hour; a mean is -0.5, what is new is missing in the first window, other values are 1, 2, ..."""
    new = {Kind.NEW, Kind.NEW_COUNT, Kind.NEW_SUM}
    with DatapoolWriter(folder, 3_600, 600, definition, by_series=by_series) as writer:
        for window in range(6):
            values = {
                feature.key: -0.5
                if feature.measure.kind is Kind.BALANCE
                else math.nan
                if feature.measure.kind in new and window == 0
                else window + 1.0
                for feature in ALL_FEATURES.features
            }
            writer.write(AggregateRow("10.0.0.1", START_NS + window * 600 * NANOS_PER_SECOND, values))
        writer.close(seen or definition.protocols)
    return folder


def parse(*words: str) -> object:
    return build_parser().parse_args(["fit", *RANGES, *words])


def test_training_reads_all_columns_that_aggregate_writes(tmp_path: Path) -> None:
    columns = list_columns(write_pool(tmp_path))
    assert sum(map(len, columns.values())) == len(FEATURES)
    series = read_datapool(tmp_path, parse_query(format_query(columns)), parse_interval("2024-01-01"))
    assert series.values.shape == (6, len(FEATURES))
    balance = series.names.index("conn_out_producer_consumer_ratio")
    new = series.names.index("ssl_out_new_server_names")
    assert (series.values[:, balance] == -0.5).all()
    np.testing.assert_array_equal(series.values[:, new], [np.nan, 2, 3, 4, 5, 6])
    assert np.isnan(series.values).sum() == sum(feature.measure.name.startswith("new_") for feature in FEATURES)


def test_a_column_that_may_be_negative_is_a_mean_and_bytes_are_sums() -> None:
    kinds = {key: describe_column(key, *key.split("|")).kind for key in (feature.key for feature in FEATURES)}
    assert [key for key, kind in kinds.items() if kind == "mean"] == [
        *(f"conn|{direction}_avg_duration" for direction in ("in", "out", "internal")),
        *(f"conn|{direction}_producer_consumer_ratio" for direction in ("out", "internal")),
    ]
    assert {key for key, kind in kinds.items() if kind == "sum"} == {
        key for key in kinds if key.endswith(("bytes", "bytes_sent"))
    }
    assert {describe_column(key, *key.split("|")).unit for key, kind in kinds.items() if kind == "sum"} == {"B"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_selects_its_columns(tmp_path: Path, name: str) -> None:
    config = source_config(parse("--datapool", str(write_pool(tmp_path)), "--preset", name))
    features = parse_query(config.data_select_query).features
    assert sorted(f"{feature.protocol}|{feature.column}" for feature in features) == sorted(PRESETS[name].keys)
    assert all(feature.name == f"{feature.protocol}_{feature.column}" for feature in features)


def test_the_columns_of_a_log_that_was_not_there_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = write_pool(tmp_path, seen=("conn", "dns"))
    config = source_config(parse("--datapool", str(pool), "--preset", "outward"))
    assert {feature.protocol for feature in parse_query(config.data_select_query).features} == {"conn", "dns"}
    assert "ssl|out_new_server_names" in capsys.readouterr().out


def test_a_datapool_without_a_column_of_the_preset_is_refused(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool", Definition.of(["conn|out_failed", "dns|out_count_uid"]))
    with pytest.raises(DataError, match=r"no column conn\|out_connections.*without --columns"):
        source_config(parse("--datapool", str(pool), "--preset", "outward"))
    sensor = write_pool(tmp_path / "sensor", Definition.of(["alert|out_severity_1"]))
    with pytest.raises(DataError, match="has none of conn, dns, ssl; there are alert"):
        source_config(parse("--datapool", str(sensor), "--preset", "outward"))


def test_series_in_folders_have_the_outward_preset_where_its_columns_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write_pool(tmp_path / "new", by_series=True)
    old = write_pool(tmp_path / "old", Definition.of(["conn|in_count_uid", "dns|in_distinct_query"]), by_series=True)
    config = source_config(parse("--datapool", str(new), "--series-folders"))
    assert config.data_select_query == select_columns(PRESETS["outward"], list_columns(new)).query
    assert "--preset outward" in capsys.readouterr().out
    assert source_config(parse("--datapool", str(old), "--series-folders")).data_select_query == DEFAULT_QUERY
    given = parse("--datapool", str(new), "--series-folders", "--data-select-query", "conn|in_count_uid~a")
    assert source_config(given).data_select_query == "conn|in_count_uid~a"
    assert source_config(parse("--datapool", str(new / "10.0.0.1"))).data_select_query == DEFAULT_QUERY


def test_a_preset_of_a_table_and_a_preset_beside_a_query_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        source_config(parse("--csv", "x.csv", "--preset", "site"))
    assert "--preset names columns of a --datapool" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse("--datapool", "x", "--preset", "site", "--data-select-query", "ssh|in")
