"""How the series of a version come to the one that serves after it."""

from dataclasses import replace

from mods_grpc.server.series.slots import SeriesStates
from mods_grpc.server.series.snapshot import adopt, comparable, take


def succeed(before: SeriesStates, now: SeriesStates, *, same_model: bool) -> None:
    """Let a version go on with the series of the one before.

    They are moved as they are where both versions keep the same of a series and no stream has pinned either, so that neither time
    nor memory depends on how many there are. Otherwise they are copied; a stream that has pinned a version stays with its series.
    """
    if before.pins or now.pins or len(now) or before.table.shape != now.table.shape:
        going_on = before.answers(before.sensors())  # not copies: the streams that follow add to them
        adopt(now, replace(take(before), answers=going_on), same_model=same_model)
        now.doubt(before.doubted)
    else:
        now.take_over(before)
        if not same_model:
            now.table.forget_learnt(ahead=not comparable(now.table, before.table, same_model=same_model))
