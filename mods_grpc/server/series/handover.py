"""How the series of a version come to the one that serves after it."""

from dataclasses import replace

from mods_grpc.server.series.slots import SeriesSlots
from mods_grpc.server.series.snapshot import restore, is_compatible, capture


def hand_over(before: SeriesSlots, now: SeriesSlots, *, same_model: bool) -> None:
    """Let a version go on with the series of the one before.

    They are moved as they are where both versions keep the same of a series and no stream has pinned either, so that neither time
    nor memory depends on how many there are. Otherwise they are copied; a stream that has pinned a version stays with its series.
    """
    if before.pins or now.pins or len(now) or before.table.shape != now.table.shape:
        going_on = before.cached_replies(before.sensors())  # not copies: the streams that follow add to them
        restore(now, replace(capture(before), answers=going_on), same_model=same_model)
        now.mark_stale(before.stale_sensors)
    else:
        now.absorb(before)
        if not same_model:
            now.table.forget_learnt(ahead=not is_compatible(now.table, before.table, same_model=same_model))
