"""Runs a server process until a signal stops it."""

import asyncio
import gc
import importlib.util
import logging
import math
import signal
import sys
from importlib.metadata import distributions
from typing import Any

from google.protobuf.internal import api_implementation

from mods_grpc.errors import ArtifactError
from mods_grpc.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_USAGE, describe_os_error
from mods_grpc.server.app import App
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.descriptors import fit_connections, raise_descriptor_limit
from mods_grpc.server.log_setup import set_up_logging
from mods_grpc.server.models.versions import VersionState

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_SECONDS = 0.0005
SAME_SIGNAL_SECONDS = 0.1  # `timeout`, and others that forward a signal to the group they are in, send it twice


def run(config: ServerConfig) -> int:
    """Serve until SIGTERM or SIGINT.

    A second one ends the calls that are left and writes the state file; a third does not wait for that. SIGHUP has credentials
    and the model repository read again.

    Returns:
        Exit status: 0 if drained in time, 1 if not, if the state file was not written or if no model was ready, 2 if the server
        could not start.
    """
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # which log rotation sends to other servers, and which would end this one
        signal.signal(number, signal.SIG_IGN)
    set_up_logging(config.log_level, config.log_format)
    _check_environment()
    set_switch_interval()
    config = fit_connections(config, raise_descriptor_limit())
    try:
        with asyncio.Runner(loop_factory=choose_loop_factory()) as runner:
            return runner.run(_serve(config))
    except (ArtifactError, OSError, ValueError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        logger.error("cannot_start", extra={"reason": reason})
        return EXIT_USAGE


async def _serve(config: ServerConfig) -> int:
    loop = asyncio.get_running_loop()
    stops, reload_requested = StopSignals(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stops.receive, number)
    loop.add_signal_handler(signal.SIGHUP, reload_requested.set)
    try:
        return await _serve_until(stops, reload_requested, App(config))
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # else one would end the process before its exit status is known


class StopSignals:
    """The signals to stop that came; the same one twice at once counts once."""

    def __init__(self) -> None:
        self._queue = asyncio.Queue[None]()
        self._times: dict[int, float] = {}  # when each was counted last

    def receive(self, number: int) -> None:
        """Take note of a signal."""
        now = asyncio.get_running_loop().time()
        if now - self._times.get(number, -math.inf) > SAME_SIGNAL_SECONDS:
            self._times[number] = now
            self._queue.put_nowait(None)

    async def wait(self) -> None:
        """Wait for the next one."""
        await self._queue.get()


async def _serve_until(stops: StopSignals, reload_requested: asyncio.Event, app: App) -> int:
    await app.listen()
    serving = asyncio.ensure_future(_load_and_reload(app, reload_requested))
    if not await _finishes_first(serving, stops):
        serving.cancel()
        await asyncio.wait({serving})
    if not serving.cancelled():
        serving.result()  # raises why the models could not be loaded
    stopping = asyncio.ensure_future(app.stop())
    if not await _finishes_first(stopping, stops):
        stopping.cancel()
        await asyncio.wait({stopping})
        await _finishes_first(asyncio.ensure_future(app.stop_now()), stops)
        return EXIT_FAILED
    if not any(entry.state is VersionState.READY for entry in app.repository.entries()):
        logger.error("no_model_ready", extra={"reason": "the server was stopped before it had a model that could answer"})
        return EXIT_FAILED
    return EXIT_OK if stopping.result() else EXIT_FAILED


async def _load_and_reload(app: App, reload_requested: asyncio.Event) -> None:
    """Load the models, then reload whenever that is requested, until it is cancelled."""
    await app.load()
    freeze_gc()
    while True:
        await reload_requested.wait()
        reload_requested.clear()
        try:
            await app.reload()
        except Exception:  # the next one may succeed
            logger.exception("reload_failed")


async def _finishes_first(task: asyncio.Future[Any], stops: StopSignals) -> bool:
    """Wait for a task or the next signal to stop, and return whether the task finished before it."""
    stop = asyncio.ensure_future(stops.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    return task.done()


def choose_loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """Return the event loop class of uvloop if it is installed, else None for the default."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - optional

    return uvloop.Loop


def set_switch_interval() -> None:
    """Shorten the interval at which threads hand over the GIL, which a health probe needs several times while others compute."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)


def freeze_gc() -> None:
    """Exclude the objects created at the start, modules and models, from garbage collections, which pause all calls."""
    gc.collect()
    gc.freeze()


def _check_environment() -> None:
    """Warn of installations that work but are slow or fragile."""
    if api_implementation.Type() != "upb":
        logger.warning("slow_protobuf", extra={"implementation": api_implementation.Type(), "expected": "upb"})
    names = {(dist.metadata["Name"] or "").lower() for dist in distributions()}
    if {"onnxruntime", "onnxruntime-gpu"} <= names:
        reason = "onnxruntime and onnxruntime-gpu overwrite each other; install one extra, [cpu] or [gpu]"
        logger.warning("conflicting_onnxruntimes", extra={"reason": reason})
