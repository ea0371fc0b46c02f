"""`mods-grpc watch`: follow the logs of Zeek or Suricata and tell what is unlike them."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

from mods_grpc.cli.client import open_client
from mods_grpc.cli.live_view import LiveView
from mods_grpc.cli.watch_arguments import parse_span, watch_arguments
from mods_grpc.cli.watch_wiring import check_windows, make_aggregator, make_columns, make_sink, make_watch, ready_model
from mods_grpc.client import Client, ModelInfo
from mods_grpc.errors import ConnectionFailedError, ModelUnavailableError
from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.sources.eve_socket import EveReceiver
from mods_grpc.ids.sources.reader import LogReader, Position
from mods_grpc.ids.watch.checkpoint import Checkpoint
from mods_grpc.ids.watch.loop import follow
from mods_grpc.ids.watch.watch import Saver, identify
from mods_grpc.ids.windows.feed import Feed

DEFAULT_STATE = Path("mods-watch-state")
EVENTS = "events"  # below the state: what came over a socket
LONGEST_WAIT_SECONDS = 5.0

logger = logging.getLogger(__name__)


def add_watch_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `watch` command."""
    parser = commands.add_parser("watch", help="turn live logs into alerts", parents=[watch_arguments()])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--zeek", type=Path, metavar="DIR", help="folder that Zeek writes to, such as /opt/zeek/logs/current")
    source.add_argument("--eve", type=Path, metavar="FILE", help="eve.json of Suricata")
    source.add_argument(
        "--eve-socket", type=Path, metavar="PATH", help="make a unix socket that Suricata writes to (filetype: unix_stream)"
    )
    parser.add_argument("--eve-datagram", action="store_true", help="the socket takes datagrams (filetype: unix_dgram)")
    parser.add_argument("--archive", type=Path, metavar="DIR", help="where rotated logs go (default: guessed)")
    parser.add_argument(
        "--state",
        type=Path,
        default=DEFAULT_STATE,
        metavar="DIR",
        help="where it is written down how far this got (default %(default)s)",
    )
    parser.add_argument(
        "--silence",
        type=parse_span,
        default=1_800.0,
        metavar="SPAN",
        help="when live logs say nothing for so long, judge their silence; 0 never does (default 30m)",
    )
    parser.set_defaults(run=run_watch)


def run_watch(arguments: argparse.Namespace) -> int:
    """Watch until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    stop = Event()
    with _stopped_by_signals(stop):
        try:
            return _watch(arguments, stop)
        except ConnectionFailedError:
            if not stop.is_set():
                raise
            logger.info("stopped while the server was away")
            return 0


def _watch(arguments: argparse.Namespace, stop: Event) -> int:
    with ExitStack() as stack:
        checkpoint = stack.enter_context(_checkpoint(arguments))
        client = stack.enter_context(open_client(arguments))
        wait = _waiting(stop)
        model = _model(client, arguments, wait)
        check_windows(arguments, model)
        saved = checkpoint.load()
        identity = identify(
            saved,
            sensor=arguments.sensor,
            model=model.name,
            features=model.feature_names,
            window_seconds=round(model.window_seconds),
            slide_seconds=round(model.slide_seconds),
        )
        view = stack.enter_context(LiveView()) if arguments.tui else None
        columns = make_columns(arguments, model)
        source = _Source(arguments, columns.definition.protocols, saved, stack)
        feed = Feed(
            source.reader,
            make_aggregator(arguments, model, columns),
            columns,
            lateness_seconds=arguments.lateness,
            silence_seconds=arguments.silence or None,
        )
        sink = make_sink(arguments, arguments.state)
        watch = make_watch(
            arguments, client, model, identity.namespace, sink, wait=wait, observe=None if view is None else view.observe
        )
        if saved is not None:
            feed.restore(saved["feed"])
            watch.restore(saved["watch"])
        watch.open()
        logger.info("watching model=%s version=%d resumed=%s", model.name, model.version, saved is not None)
        parts = {"position": source.position, "feed": feed.state, "watch": watch.state}
        saver = Saver(checkpoint, identity, parts, source.forget)
        follow(feed, watch, saver, stop)
        watch.close()
        tally, late, ahead = watch.tally, feed.aggregator.counters.late, feed.clock.held
        read = (feed.records, source.reader.counters.refused, late, ahead)
        told = (tally.windows, tally.alerts, tally.by_phase[AlertPhase.UPDATE], tally.by_phase[AlertPhase.END])
        logger.info("stopped records=%d malformed=%d late=%d ahead=%d windows=%d alerts=%d updates=%d ends=%d", *read, *told)
    return 0


class _Source:
    """The logs that are followed: those of Zeek or Suricata, or what came over a socket."""

    def __init__(
        self, arguments: argparse.Namespace, protocols: tuple[str, ...], saved: dict[str, Any] | None, stack: ExitStack
    ) -> None:
        path, self._receiver = arguments.zeek or arguments.eve, None
        if arguments.eve_socket is not None:
            path = Path(stack.enter_context(TemporaryDirectory())) if arguments.dry_run else arguments.state / EVENTS
            self._receiver = stack.enter_context(EveReceiver(arguments.eve_socket, path, datagram=arguments.eve_datagram))
        position = None if self._receiver is None else self._receiver.beginning
        if saved is not None:
            position = Position.from_json(saved["position"])
        self.reader = LogReader(path, protocols=protocols, follow=True, archive=arguments.archive, position=position)
        stack.callback(self.reader.close)
        for name in self.reader.lost:
            logger.warning("position_lost log=%s: rotated away and not found again; --archive says where rotated logs go", name)

    def position(self) -> str:
        """Return how far was read."""
        return self.reader.position().to_json()

    def forget(self) -> None:
        """Remove what need not be read again."""
        if self._receiver is not None:
            self._receiver.forget(self.reader.position())


class _NoCheckpoint(Checkpoint):
    """Remembers nothing: for a dry run."""

    def __init__(self) -> None:
        self._lock = os.open(os.devnull, os.O_RDONLY)

    def load(self) -> None:
        """Return nothing."""

    def save(self, state: dict[str, Any]) -> None:
        """Do nothing."""


def _checkpoint(arguments: argparse.Namespace) -> Checkpoint:
    return _NoCheckpoint() if arguments.dry_run else Checkpoint(arguments.state)


def _model(client: Client, arguments: argparse.Namespace, wait: Callable[[int, ConnectionFailedError], None]) -> ModelInfo:
    attempt = 0
    while True:
        attempt += 1
        try:
            return ready_model(client, arguments)
        except ConnectionFailedError as error:
            wait(attempt, error)
        except ModelUnavailableError as error:
            wait(attempt, ConnectionFailedError(error.message))


def _waiting(stop: Event) -> Callable[[int, ConnectionFailedError], None]:
    def wait(attempt: int, error: ConnectionFailedError) -> None:
        if attempt == 1:
            logger.warning("server_unreachable error=%s", error.message)
        if stop.wait(min(0.1 * 2 ** min(attempt, 10), LONGEST_WAIT_SECONDS)):
            raise error

    return wait


@contextmanager
def _stopped_by_signals(stop: Event) -> Iterator[None]:
    """Stop in good order at the first signal, and at once at the second."""

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
