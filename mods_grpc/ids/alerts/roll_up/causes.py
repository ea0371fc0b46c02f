"""What several alerts may have in common: the keys by which `RollUp` recognises one cause in many series."""

import ipaddress
from enum import StrEnum

from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.evidence.evidence import Dimension, FeatureEvidence

_COMMON_PATH = "/"


class Likeness(StrEnum):
    """In what alerts are alike, the most telling first: alerts are rolled up by the first in which enough of them are."""

    FALL = "fall"  # the same feature is unusually low, as when a sensor or an uplink fails
    SOURCE = "source"  # the same source
    DESTINATION = "destination"
    DOMAIN = "domain"  # that is asked for
    SERVER_NAME = "server_name"
    HOST = "host"  # of outbound HTTP requests
    PATH = "path"  # the same feature, mostly with the same path
    PORT = "port"  # the same feature, mostly to the same port
    BURST = "burst"  # the same feature is unusual in the same direction, of which no logs were read


FAR_SIDE = (Likeness.SOURCE, Likeness.DESTINATION, Likeness.DOMAIN, Likeness.SERVER_NAME, Likeness.HOST)
"""The far side of the traffic. It is a cause on its own, so that a later alert with it joins a single one before."""

WEAK = (Likeness.PATH, Likeness.PORT)
"""What single alerts of several batches are one cause by, if enough are open: what spreads slowly is seen in a host at a time."""

MIN_SERIES = dict.fromkeys(FAR_SIDE, 2) | {
    Likeness.FALL: 5,
    Likeness.PATH: 3,
    Likeness.PORT: 3,
    Likeness.BURST: 10,
}
"""Series that must be alike to be rolled up: of one batch, and of `WEAK` likenesses with the single alerts that are open."""


def find_keys(alert: Alert) -> dict[Likeness, str]:
    """Return the keys of an alert: two alerts with the same key for a likeness are alike in it. Empty if there are none."""
    leading = None if alert.evidence is None else alert.evidence.leading
    if leading is None:
        return _keys_of_features(alert)
    direction = leading.column.partition("_")[0]
    far = _far_side(leading, direction, alert.series)
    keys = {likeness: _key(likeness, _name_change(leading), value) for likeness, value in far.items()}
    if leading.is_fall:
        return {Likeness.FALL: _key(Likeness.FALL, leading.feature)} | keys
    path, port = _dominant(leading, Dimension.PATH), _dominant(leading, Dimension.PORT)
    if path is not None and (path != _COMMON_PATH or not far):
        keys[Likeness.PATH] = _key(Likeness.PATH, leading.feature, path)
    if port is not None and not far:  # most traffic goes to few ports, so with far sides of their own they are not one cause
        keys[Likeness.PORT] = _key(Likeness.PORT, leading.feature, port)
    return keys


def _keys_of_features(alert: Alert) -> dict[Likeness, str]:
    """Return the keys of an alert without evidence."""
    if not alert.features:
        return {}
    leading = max(alert.features, key=lambda feature: feature.share)
    if leading.observed is None:
        return {Likeness.BURST: _key(Likeness.BURST, "missing", leading.feature)}
    if leading.observed < leading.expected:
        return {Likeness.FALL: _key(Likeness.FALL, leading.feature)}
    return {Likeness.BURST: _key(Likeness.BURST, "rise", leading.feature)}


def _far_side(leading: FeatureEvidence, direction: str, series: str) -> dict[Likeness, str]:
    source, destination = _dominant(leading, Dimension.SOURCE), _dominant(leading, Dimension.DESTINATION)
    far: dict[Likeness, str | None] = {Likeness.DOMAIN: _dominant(leading, Dimension.DOMAIN)}
    is_internal_target = direction == "internal" and source is not None and not _is_of_series(source, series)
    if direction == "in" or is_internal_target:
        far[Likeness.SOURCE] = source
    elif destination is not None and not _is_of_series(destination, series):
        far[Likeness.DESTINATION] = destination
    if direction != "in":
        far[Likeness.SERVER_NAME] = _dominant(leading, Dimension.SERVER_NAME)
        far[Likeness.HOST] = _dominant(leading, Dimension.HOST)
    return {likeness: value for likeness, value in far.items() if value is not None}


def _dominant(leading: FeatureEvidence, dimension: Dimension) -> str | None:
    evidence = leading.dimension(dimension)
    return evidence.dominant.value if evidence is not None and evidence.dominant is not None else None


def _is_of_series(address: str, series: str) -> bool:
    """Return whether an address is the series, or in the subnet that the series is."""
    if address == series:
        return True
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(series)
    except ValueError:
        return False


def _name_change(leading: FeatureEvidence) -> str:
    return "fall" if leading.is_fall else "rise"


def _key(*parts: str) -> str:
    return "\x00".join(parts)
