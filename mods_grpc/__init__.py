"""Forecasts of network-monitoring time series and calibrated verdicts on what departs from them, over gRPC."""

from typing import TYPE_CHECKING

from mods_grpc.version import __version__

if TYPE_CHECKING:
    from mods_grpc.client import Client

__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> object:
    """Import the client when it is asked for: detection and training need no gRPC."""
    if name == "Client":
        from mods_grpc.client import Client  # noqa: PLC0415

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
