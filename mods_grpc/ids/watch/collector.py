"""How often Python's collector of cycles looks at objects while records come."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

NEW_OBJECTS = 20_000  # records hold no cycles, and with the default of 700 the collector takes a tenth of the time
YOUNG_COLLECTIONS = 20


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Let the collector look at new objects seldom, and not at all at those that are there already, such as modules."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, YOUNG_COLLECTIONS, YOUNG_COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
