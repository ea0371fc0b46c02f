"""`mods-grpc watch`: follow Zeek or Suricata logs and report anomalies."""

import argparse
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

from mods_grpc.cli.arguments import add_command, open_client, span, watch_arguments
from mods_grpc.cli.output import LiveView
from mods_grpc.cli.watch_wiring import check_windows, get_ready_model, make_aggregator, make_columns, make_pipeline, make_sink
from mods_grpc.client import Client, ModelInfo
from mods_grpc.command_line import parse_path
from mods_grpc.errors import ConnectionFailedError, ModelUnavailableError
from mods_grpc.exit_codes import EXIT_OK
from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.sources.eve_socket import EveReceiver
from mods_grpc.ids.sources.reader import LogPosition, LogReader
from mods_grpc.ids.watch.checkpoint import Checkpoint, CheckpointWriter, fingerprint
from mods_grpc.ids.watch.loop import run_loop
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.server.log_setup import set_up_logging

DEFAULT_STATE = Path("mods-watch-state")
EVENTS_FOLDER = "events"  # in the state folder: events received over a socket
MAX_WAIT_SECONDS = 5.0

RetryWait = Callable[[int, ConnectionFailedError], None]

logger = logging.getLogger(__name__)


def add_watch_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `watch` command."""
    parser = add_command(commands, "watch", "follow Zeek or Suricata logs and report anomalies", parents=[watch_arguments()])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--zeek", type=parse_path, metavar="DIR", help="folder that Zeek logs to, such as /opt/zeek/logs/current")
    source.add_argument("--eve", type=parse_path, metavar="FILE", help="Suricata's eve.json")
    source.add_argument(
        "--eve-socket",
        type=parse_path,
        metavar="PATH",
        help="create a unix socket for Suricata to write to (filetype: unix_stream)",
    )
    parser.add_argument("--eve-datagram", action="store_true", help="make that a datagram socket (filetype: unix_dgram)")
    parser.add_argument(
        "--archive",
        type=parse_path,
        metavar="DIR",
        help="folder of rotated logs (default: the parent of a log folder called current)",
    )
    parser.add_argument(
        "--state",
        type=parse_path,
        default=DEFAULT_STATE,
        metavar="DIR",
        help="folder of the checkpoint, from which a restarted watch continues (default %(default)s)",
    )
    parser.add_argument(
        "--silence",
        type=span(minimum=0),
        default=1_800.0,
        metavar="SPAN",
        help="after SPAN without a record, assume that there was no traffic; 0 never assumes it (default 30m)",
    )
    parser.set_defaults(run=run_watch)


def run_watch(arguments: argparse.Namespace) -> int:
    """Watch until a signal stops it."""
    set_up_logging("INFO", "text")
    stop = Event()
    with install_signal_handlers(stop):
        try:
            return _watch(arguments, stop)
        except ConnectionFailedError:
            if not stop.is_set():
                raise
            logger.info("stopped", extra={"reason": "server_unreachable"})
            return EXIT_OK


def _watch(arguments: argparse.Namespace, stop: Event) -> int:
    with ExitStack() as stack:
        checkpoint = stack.enter_context(_open_checkpoint(arguments))
        client = stack.enter_context(open_client(arguments))
        wait = make_retry_wait(stop)
        model = wait_for_model(client, arguments, wait)
        check_windows(arguments, model)
        saved = checkpoint.load()
        identity = fingerprint(
            saved,
            sensor=arguments.sensor,
            model=model.name,
            features=model.feature_names,
            window_seconds=round(model.window_seconds),
            slide_seconds=round(model.slide_seconds),
        )
        view = stack.enter_context(LiveView()) if arguments.tui else None
        columns = make_columns(arguments, model)
        source = _LogSource(arguments, columns.definition.protocols, saved, stack)
        feed = WindowFeed(
            source.reader,
            make_aggregator(arguments, model, columns),
            columns,
            lateness_seconds=arguments.lateness,
            silence_seconds=arguments.silence or None,
        )
        sink = make_sink(arguments, arguments.state)
        pipeline = make_pipeline(
            arguments, client, model, identity.namespace, sink, wait=wait, observe=None if view is None else view.observe
        )
        if saved is not None:
            feed.restore(saved["feed"])
            pipeline.restore(saved["watch"])
        pipeline.open()
        fields = {"model": model.name, "version": model.version, "resumed": saved is not None}
        logger.info("watching", extra=fields)
        parts = {"position": source.position, "feed": feed.state, "watch": pipeline.state}
        writer = CheckpointWriter(checkpoint, identity, parts, source.delete_consumed)
        run_loop(feed, pipeline, writer, stop)
        pipeline.close()
        counters, by_phase = pipeline.counters, pipeline.counters.by_phase
        totals = {
            "records": feed.records,
            "malformed": source.reader.counters.rejected,
            "late": feed.aggregator.counters.late,
            "ahead": feed.watermark.pending,
            "windows": counters.windows,
            "alerts": counters.alerts,
            "updates": by_phase[AlertPhase.UPDATE],
            "ends": by_phase[AlertPhase.END],
        }
        logger.info("stopped", extra=totals)
    return EXIT_OK


class _LogSource:
    """The logs to follow: files of Zeek or Suricata, or events received over a socket."""

    def __init__(
        self, arguments: argparse.Namespace, protocols: tuple[str, ...], saved: dict[str, Any] | None, stack: ExitStack
    ) -> None:
        path, self._receiver = arguments.zeek or arguments.eve, None
        if arguments.eve_socket is not None:
            path = Path(stack.enter_context(TemporaryDirectory())) if arguments.dry_run else arguments.state / EVENTS_FOLDER
            self._receiver = stack.enter_context(EveReceiver(arguments.eve_socket, path, datagram=arguments.eve_datagram))
        position = None if self._receiver is None else self._receiver.start
        if saved is not None:
            position = LogPosition.from_json(saved["position"])
        self.reader = LogReader(path, protocols=protocols, follow=True, archive=arguments.archive, position=position)
        stack.callback(self.reader.close)
        for name in self.reader.lost:
            logger.warning("position_lost", extra={"log": name, "hint": "--archive names the folder of rotated logs"})

    def position(self) -> str:
        """Return the position up to which the logs were read, as JSON."""
        return self.reader.position().to_json()

    def delete_consumed(self) -> None:
        """Delete received events that a restart would not read again."""
        if self._receiver is not None:
            self._receiver.delete_consumed(self.reader.position())


class NullCheckpoint(Checkpoint):
    """A checkpoint that saves nothing, for a dry run."""

    def __init__(self) -> None:
        self._lock = os.open(os.devnull, os.O_RDONLY)

    def load(self) -> None:
        """Return None: nothing was saved."""

    def save(self, state: dict[str, Any]) -> None:
        """Do nothing."""


def _open_checkpoint(arguments: argparse.Namespace) -> Checkpoint:
    return NullCheckpoint() if arguments.dry_run else Checkpoint(arguments.state)


def wait_for_model(client: Client, arguments: argparse.Namespace, wait: RetryWait) -> ModelInfo:
    """Get the description of the model, and wait while the server can't be reached or is loading it.

    Raises:
        ConnectionFailedError: `wait` gave up.
        ModelUnusableError: The model could not be loaded, or was retired.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return get_ready_model(client, arguments)
        except ConnectionFailedError as error:
            wait(attempt, error)
        except ModelUnavailableError as error:
            wait(attempt, ConnectionFailedError(error.message))


def make_retry_wait(stop: Event) -> RetryWait:
    """Return a function that waits before another attempt, longer each time, and raises the error if `stop` is set meanwhile."""

    def wait(attempt: int, error: ConnectionFailedError) -> None:
        if attempt == 1:
            logger.warning("server_unreachable", extra={"error": error.message})
        if stop.wait(min(0.1 * 2 ** min(attempt, 10), MAX_WAIT_SECONDS)):
            raise error

    return wait


@contextmanager
def install_signal_handlers(stop: Event) -> Iterator[None]:
    """Set `stop` at the first SIGINT or SIGTERM; a second one of the same kind kills the process.

    The former handlers are back when the context ends.
    """

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    former_handlers = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former_handlers.items():
            signal.signal(number, handler)
