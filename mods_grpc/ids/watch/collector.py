"""How often Python's collector looks for cycles while records come."""

import gc

NEW_OBJECTS = 20_000  # many records, which hold no cycles: with the default of 700 the collector takes a tenth of the time
YOUNG_COLLECTIONS = 20


def collect_rarely() -> None:
    """Let the collector look at what was just created seldom, and never again at what a process has now, such as its modules."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, YOUNG_COLLECTIONS, YOUNG_COLLECTIONS)
