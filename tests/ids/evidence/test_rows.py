"""Rows of records in compact arrays: what is saved of them is what is held."""

import json

import numpy as np

from mods_grpc.ids.evidence.rows import Rows, RowStore, encode_uids


def make_rows(place, value):
    return Rows(
        np.full(3, place, dtype=np.int64), np.full((1, 3), value, dtype=np.int32), (np.ones(3),), encode_uids(["C1", "C2", "C3"])
    )


def test_no_chunk_is_saved_with_the_text_of_one_that_was_freed_before():
    store = RowStore()
    store.add(make_rows(5, 1))
    store.state()
    numbers = {id(chunk) for chunk in store._chunks}
    store.settle(first_open=6, heavy_rows=100)
    others = []
    for value in range(2, 2_000):  # of which one takes the place of the freed chunk in memory, where nothing holds it
        others.append(make_rows(9, value))
        if id(others[-1]) in numbers:
            break
    store.add(others[-1])
    restored = RowStore.from_state(json.loads(json.dumps(store.state())))
    (part,) = restored.of_place(9)
    assert part.values.tolist() == others[-1].values.tolist()
