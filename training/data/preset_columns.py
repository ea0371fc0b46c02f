"""The columns of a preset that a datapool has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mods_grpc.features.presets import Preset
from training.data.query import format_query

DEFAULT_PRESET = "outward"
"""For series in folders, which are hosts where nothing else is chosen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PresetColumns:
    """The columns of a preset in a datapool.

    Attributes:
        query: Selects those that are there, each named as in `conn_out_failed`; empty if there are none.
        without_log: Those of protocols that the datapool does not have, because there was no such log.
        absent: Those that are absent although their protocol is there.
    """

    query: str
    without_log: tuple[str, ...]
    absent: tuple[str, ...]


def select_columns(preset: Preset, available: Mapping[str, Sequence[str]]) -> PresetColumns:
    """Select the columns of a preset from those that a datapool has by protocol."""
    chosen: dict[str, list[str]] = {}
    without_log, absent = [], []
    for key in preset.keys:
        protocol, _, column = key.partition("|")
        if protocol not in available:
            without_log.append(key)
        elif column not in available[protocol]:
            absent.append(key)
        else:
            chosen.setdefault(protocol, []).append(column)
    return PresetColumns(query=format_query(chosen), without_log=tuple(without_log), absent=tuple(absent))
