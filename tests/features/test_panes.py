"""The panes of a window's last slide: windows are their sums."""

import pytest

from mods_grpc.features import ALL_FEATURES, Aggregator, AggregatorOptions, GroupBy
from mods_grpc.features.definitions import ADDITIVE_KINDS
from tests.support.ids.log_records import SECOND, START, random_records

ADDITIVE = {feature.key for feature in ALL_FEATURES.features if feature.measure.kind in ADDITIVE_KINDS}


def aggregate(records, looks, *, restarts=False, **options):
    """Rows of records that are aggregated in so many looks, with a restart after each if so wanted."""
    aggregator = Aggregator(ALL_FEATURES, AggregatorOptions(begin_ns=START, with_panes=True, **options))
    rows = []
    size = -(-len(records) // looks)
    for first in range(0, len(records), size):
        part = records[first : first + size]
        aggregator.add_many(part)
        rows += aggregator.advance(part[-1].ts - 300 * SECOND)
        if restarts:
            saved = aggregator.save()
            aggregator = Aggregator(ALL_FEATURES, AggregatorOptions(begin_ns=START, with_panes=True, **options))
            aggregator.restore(saved)
    return rows + list(aggregator.flush())


@pytest.mark.parametrize(("window", "slide"), [(3600, 600), (3600, 1200), (600, 300)])
@pytest.mark.parametrize("group_by", [GroupBy.SITE, GroupBy.HOST])
def test_a_window_is_the_sum_of_its_panes(group_by, window, slide):
    records = sorted(random_records(3, 4000, 4 * 3600), key=lambda record: record.ts)
    rows = aggregate(records, 40, restarts=True, group_by=group_by, window_seconds=window, slide_seconds=slide)
    panes = {(row.series, row.start_ns + (window - slide) * SECOND): row.panes for row in rows}
    first = min(row.start_ns for row in rows) + (window - slide) * SECOND
    checked = 0
    for row in rows:
        assert row.panes.keys() == ADDITIVE
        starts = [row.start_ns + back * SECOND for back in range(0, window, slide)]
        if starts[0] < first:  # panes that no row tells of
            continue
        for key in ADDITIVE:
            # a series without a row had no records yet, or none for long
            assert row.values[key] == sum(panes.get((row.series, start), {}).get(key, 0.0) for start in starts)
        checked += 1
    assert checked > 5
    assert any(row.panes["conn|in_count_uid"] for row in rows)


def test_panes_do_not_depend_on_looks_and_restarts():
    records = sorted(random_records(5, 2000, 3 * 3600), key=lambda record: record.ts)
    assert aggregate(records, 1) == aggregate(records, 90, restarts=True)


@pytest.mark.parametrize(("window", "slide"), [(600, 600), (900, 600)])
def test_windows_that_do_not_overlap_by_whole_slides_have_no_panes(window, slide):
    records = sorted(random_records(5, 500, 3 * 3600), key=lambda record: record.ts)
    rows = aggregate(records, 3, window_seconds=window, slide_seconds=slide)
    assert rows
    assert not any(row.panes for row in rows)
