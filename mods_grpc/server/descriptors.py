"""The limit on open files: each connection is one, and model versions, state files and libraries need some too."""

import contextlib
import logging
from dataclasses import replace

from mods_grpc.server.config import ServerConfig

RESERVED_DESCRIPTORS = 128

logger = logging.getLogger(__name__)


def raise_descriptor_limit() -> int | None:
    """Raise the process's soft limit on open files to its hard one; return it, None if there is none or it is unknown."""
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS refuses an infinite one
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def fit_connections(config: ServerConfig, limit: int | None) -> ServerConfig:
    """Return the configuration with as many connections as leave `RESERVED_DESCRIPTORS` of the open files for all else.

    Args:
        config: The configuration.
        limit: Limit on open files; None for none.
    """
    if limit is None or config.max_connections + RESERVED_DESCRIPTORS <= limit:
        return config
    connections = max(1, limit - RESERVED_DESCRIPTORS)
    hint = f"raise the limit on open files (ulimit -n, LimitNOFILE) to {config.max_connections + RESERVED_DESCRIPTORS}"
    logger.warning("few_descriptors", extra={"limit": limit, "max_connections": connections, "hint": hint})
    return replace(config, max_connections=connections)
