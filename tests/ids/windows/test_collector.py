"""The collector of cycles looks seldom while records come, and as before afterwards."""

import gc
import weakref

from mods_grpc.ids.watch.collector import NEW_OBJECTS, collecting_rarely


class Node:
    def __init__(self):
        self.itself = self


def test_the_collector_is_set_back_and_still_frees_cycles(monkeypatch):
    before, unfrozen = gc.get_threshold(), []
    monkeypatch.setattr(gc, "unfreeze", lambda: unfrozen.append(gc.get_freeze_count()))
    with collecting_rarely():
        assert gc.get_threshold()[0] == NEW_OBJECTS > before[0]
        freed = weakref.ref(Node())
        held = [[] for _ in range(2 * NEW_OBJECTS)]
        assert freed() is None
        assert len(held) == 2 * NEW_OBJECTS
        assert unfrozen == []
    assert gc.get_threshold() == before
    (count,) = unfrozen
    assert count > 0
