"""`mods-grpc watch`: follow Zeek or Suricata logs and report anomalies."""

import argparse
import importlib.util
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

from mods_grpc.cli.arguments import DEFAULT_STATE, add_command, find_contradiction, open_client, span, watch_arguments
from mods_grpc.cli.live.live_view import LiveView
from mods_grpc.cli.review.following import make_feedback, make_review
from mods_grpc.cli.watch_wiring import (
    check_destinations,
    check_windows,
    choose_lateness,
    get_ready_model,
    join_protocols,
    make_account_log,
    make_aggregator,
    make_blindness,
    make_columns,
    make_pipeline,
    make_rules,
    make_sinks,
    tell_of_past_work,
    warn_of_useless_patterns,
)
from mods_grpc.client import Client, ModelInfo
from mods_grpc.command_line import checked, parse_path
from mods_grpc.errors import ConnectionFailedError, DataError, DeadlineError, ModelUnavailableError
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_FAILED, EXIT_OK, EXIT_USAGE, describe_os_error, print_error
from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.alerts.sinks.group import SinkGroup
from mods_grpc.ids.health.account import RejectedLines
from mods_grpc.ids.health.doubts import EXIT_HELP
from mods_grpc.ids.health.facts import ReadFacts
from mods_grpc.ids.sources.eve_socket import EveReceiver
from mods_grpc.ids.sources.position import LogPosition
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.watch.accounting import AccountLog
from mods_grpc.ids.watch.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoint,
    CheckpointWriter,
    NullCheckpoint,
    PipelineFingerprint,
    fingerprint,
)
from mods_grpc.ids.watch.collector import collecting_rarely
from mods_grpc.ids.watch.live_folders import LiveFolders
from mods_grpc.ids.watch.loop import run_loop
from mods_grpc.ids.watch.monitoring import Ticker, WaitingWatch, WatchParts, collect_facts, find_logs, find_unreadable
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.watch.service_manager import ServiceManager
from mods_grpc.ids.watch.source_check import (
    check_archive,
    check_events,
    check_folder,
    check_free_port,
    check_socket,
    is_among_logs,
)
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.server.config import check_listen_address, split_host_port
from mods_grpc.server.log_setup import set_up_logging

EVENTS_FOLDER = "events"  # in the state folder: events received over a socket
MAX_WAIT_SECONDS = 5.0

_RENEWAL = "move it away to start without it, or give another --state"

RetryWait = Callable[[int, ConnectionFailedError], None]

logger = logging.getLogger(__name__)


def add_watch_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `watch` command."""
    parser = add_command(commands, "watch", "follow Zeek or Suricata logs and report anomalies", parents=[watch_arguments()])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--zeek",
        type=parse_path,
        metavar="DIR",
        help="folder that Zeek logs to, such as /opt/zeek/logs/current, or the spool of a cluster with several loggers",
    )
    source.add_argument(
        "--eve",
        type=parse_path,
        metavar="PATH",
        help="Suricata's eve.json, or the folder of its logs if their names have a date (rotate-interval) or the number of a "
        "thread (threaded); a file with a date in its name stands for those that follow it",
    )
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
        help="folder of rotated logs (default: the parent of a log folder called current); rotated logs beside or below the live "
        "log need no flag",
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
    parser.add_argument(
        "--account-interval",
        type=span(),
        default=3_600.0,
        metavar="SPAN",
        help="log the account of what was read each SPAN, and the doubts about it (default 1h); SIGUSR1 logs it at once",
    )
    parser.add_argument(
        "--metrics-address",
        type=checked(_check_metrics_address),
        metavar="HOST:PORT",
        help="serve Prometheus metrics at this address (default: nowhere)",
    )
    parser.epilog = EXIT_HELP
    parser.set_defaults(run=run_watch)


def run_watch(arguments: argparse.Namespace) -> int:
    """Watch until a signal stops it."""
    if arguments.metrics_address and importlib.util.find_spec("prometheus_client") is None:
        print_error("--metrics-address needs prometheus-client: pip install 'mods-grpc[ids]'")
        return EXIT_USAGE
    if arguments.eve_datagram and arguments.eve_socket is None:
        print_error("--eve-datagram: expected --eve-socket PATH, which it changes")
        return EXIT_USAGE
    if (contradiction := find_contradiction(arguments)) is not None:
        print_error(contradiction)
        return EXIT_USAGE
    set_up_logging("INFO", "text")
    if arguments.metrics_address:
        check_free_port("--metrics-address", *split_host_port(arguments.metrics_address))
    _check_source(arguments)
    for source in filter(None, (arguments.zeek, arguments.eve)):
        check_destinations(arguments, [source])
        if is_among_logs(arguments.state, source):
            hint = "the sensor may empty the folder of its logs; give another --state"
            logger.warning("state_among_logs", extra={"state": str(arguments.state), "hint": hint})
    warn_of_useless_patterns(arguments)
    tell_of_past_work(arguments)
    stop = Event()
    with collecting_rarely(), install_signal_handlers(stop):
        try:
            return _watch(arguments, stop)
        except ConnectionFailedError:
            if not stop.is_set():
                raise
            logger.error("stopped", extra={"reason": "server_unreachable", "hint": "what was logged meanwhile was not judged"})
            return EXIT_DOUBTFUL


def _watch(arguments: argparse.Namespace, stop: Event) -> int:
    with ExitStack() as stack:
        checkpoint = stack.enter_context(_open_checkpoint(arguments))
        client = stack.enter_context(open_client(arguments))
        service = ServiceManager({} if arguments.dry_run else os.environ)
        stack.callback(service.set_stopping)
        saved = checkpoint.load()
        sinks = make_sinks(arguments, arguments.state)
        with _damage_named(arguments.state):
            waiting = WaitingWatch(arguments.sensor, sinks, saved and saved["watch"])
        pipeline: WatchPipeline | None = None
        accounts: AccountLog | None = None

        def while_waiting() -> None:
            service.set_alive()
            sinks.retry()
            (pipeline or waiting).wait_for_server(time.time_ns(), lambda change: checkpoint.amend("watch", change))
            if accounts is not None:
                accounts.tick()

        wait = make_retry_wait(stop, while_waiting)
        model = wait_for_model(client, arguments, wait)
        check_windows(arguments, model)
        identity = _identify(arguments, model, saved)
        view = stack.enter_context(LiveView()) if arguments.tui else None
        columns = make_columns(arguments, model)
        rules = make_rules(arguments)
        source = _LogSource(arguments, join_protocols(columns, rules), saved, stack)
        choose_lateness(arguments, has_shared_log=arguments.zeek is None)
        feed = WindowFeed(
            source.reader,
            make_aggregator(arguments, model, columns),
            columns,
            lateness_seconds=arguments.lateness,
            silence_seconds=arguments.silence or None,
            logs=find_logs(source.path, arguments.archive, columns.definition.protocols),
            has_shared_log=arguments.zeek is None,
            rules=rules,
        )
        blindness = make_blindness(arguments, model, columns, live=True)
        pipeline = make_pipeline(
            arguments,
            client,
            model,
            identity.namespace,
            sinks,
            blindness=blindness,
            rules=rules,
            evidence=feed.evidence,
            columns=columns,
            wait=wait,
            view=view,
        )
        _restore(arguments, saved, feed, pipeline, sinks)
        blindness.continue_from(waiting.blindness)
        accounts = make_account_log(arguments, model, columns, source.reader, source.rejected, feed, pipeline)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: accounts.request())
        pipeline.open()
        logger.info("watching", extra={"model": model.name, "version": model.version, "resumed": saved is not None})
        writer = CheckpointWriter(
            checkpoint,
            identity,
            {"position": source.position, "feed": feed.state, "watch": pipeline.state},
            source.delete_consumed,
        )

        def collect() -> ReadFacts:
            unreadable, gone = source.find_unreadable()
            return collect_facts(
                source.reader.counters,
                feed,
                unreadable,
                source.lost(),
                unwritable=sinks.list_errors() | checkpoint.list_errors(),
                gone=gone,
            )

        blindness.begin(collect())  # also has the first windows do without the logs that can't be read
        ticker = Ticker(pipeline, collect, service, sinks.retry, make_review(arguments, model, pipeline))
        if arguments.metrics_address:
            watch_parts = WatchParts(
                model=model,
                counters=source.reader.counters,
                feed=feed,
                pipeline=pipeline,
                undelivered=sinks.count_undelivered,
                saved_at=lambda: writer.saved_at,
                polled_at=lambda: ticker.polled_at,
            )
            stack.callback(_serve_metrics(arguments.metrics_address, watch_parts))

        def while_reading() -> None:
            ticker.while_reading()
            accounts.tick()

        run_loop(feed, pipeline, writer, stop, while_reading=while_reading, after_poll=ticker.after_poll)
        pipeline.close()
        status = _log_outcome(accounts, sinks, checkpoint)
        _log_end(source, feed, pipeline)
    return status


def _check_source(arguments: argparse.Namespace) -> None:
    """Check the source before anything is created, and say what it waits for.

    Raises:
        DataError: It can't be a source.
    """
    waiting_for = None
    if arguments.archive is not None:
        check_archive(arguments.archive)
    if arguments.eve_socket is not None:
        check_socket(arguments.eve_socket)
    elif arguments.zeek is not None:
        waiting_for = check_folder(arguments.zeek)
    else:
        waiting_for = check_events(arguments.eve)
    if waiting_for is not None:
        logger.warning("waiting", extra={"for": waiting_for})


def _identify(arguments: argparse.Namespace, model: ModelInfo, saved: dict[str, Any] | None) -> PipelineFingerprint:
    """Return what a checkpoint of this watch belongs to, which must be what the saved one does."""
    with _damage_named(arguments.state):
        return fingerprint(
            saved,
            sensor=arguments.sensor,
            model=model.name,
            features=model.feature_names,
            window_seconds=round(model.window_seconds),
            slide_seconds=round(model.slide_seconds),
        )


def _restore(
    arguments: argparse.Namespace, saved: dict[str, Any] | None, feed: WindowFeed, pipeline: WatchPipeline, sinks: SinkGroup
) -> None:
    pipeline.feedback = make_feedback(arguments, pipeline)
    if saved is None:
        sinks.recover_without_marks()
    else:
        with _damage_named(arguments.state):
            feed.restore(saved["feed"])
            pipeline.restore(saved["watch"], feed.last_panes())


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Say of a checkpoint that can't be restored where it is, and what to do."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{folder / CHECKPOINT_FILE}: {error.message}; {_RENEWAL}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder / CHECKPOINT_FILE}: it is damaged; {_RENEWAL}") from error


def _log_outcome(accounts: AccountLog, sinks: SinkGroup, checkpoint: Checkpoint) -> int:
    """Log the account of the run and what could not be written; return the exit status."""
    is_doubtful = accounts.finish()
    unwritten = sinks.count_unwritten()
    hint = "what waits is in the checkpoint and is written after the next start"
    if checkpoint.error is not None:
        hint = "the next start raises them again, as far as the logs are still there"
    for destination, number in unwritten.items():
        logger.error("alerts_unwritten", extra={"destination": destination, "number": number, "hint": hint})
    if unwritten or checkpoint.error is not None:
        return EXIT_FAILED
    return EXIT_DOUBTFUL if is_doubtful else EXIT_OK


def _log_end(source: "_LogSource", feed: WindowFeed, pipeline: WatchPipeline) -> None:
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
        "rule_alerts": 0 if pipeline.rules is None else sum(pipeline.rules.counters.alerts.values()),
    }
    logger.info("stopped", extra=totals)


def _check_metrics_address(value: str) -> None:
    try:
        check_listen_address(value, "--metrics-address", unix=False)
    except ValueError as error:
        raise DataError(str(error)) from error


def _serve_metrics(address: str, parts: WatchParts) -> Callable[[], None]:
    """Serve the metrics, and return a function that stops that."""
    from mods_grpc.ids.watch.metrics import make_registry  # noqa: PLC0415 - the base install has no prometheus_client
    from mods_grpc.server.telemetry.metrics_endpoint import serve_registry  # noqa: PLC0415

    port, close = serve_registry(make_registry(parts), *split_host_port(address))
    logger.info("metrics", extra={"port": port})
    return close


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
            with _damage_named(arguments.state):
                position = LogPosition.from_json(saved["position"])
        self.rejected = RejectedLines()
        self.reader = LogReader(
            path,
            protocols=protocols,
            follow=True,
            archive=arguments.archive,
            position=position,
            on_rejected=self.rejected.add,
        )
        stack.callback(self.reader.close)
        self.path, self._protocols, self._folders = path, protocols, LiveFolders(path)

    def find_unreadable(self) -> tuple[dict[Path, str], dict[Path, str]]:
        """Return what can't be read now, with the error, and the folders that are gone while others may be there."""
        gone = self._folders.find_gone()
        followed = {path: reason for path, reason in gone.items() if path == self.path}
        return find_unreadable(self.path, self._protocols) | followed, gone

    def lost(self) -> dict[str, int]:
        """Return how often records of a log were lost."""
        received = {} if self._receiver is None else {"eve-socket": self._receiver.lost}
        return {**Counter(self.reader.lost), **received}

    def position(self) -> str:
        """Return the position up to which the logs were read, as JSON."""
        if self._receiver is not None:
            self._receiver.sync()
        return self.reader.position().to_json()

    def delete_consumed(self) -> None:
        """Delete received events that a restart would not read again."""
        if self._receiver is not None:
            self._receiver.delete_consumed(self.reader.position())


def _open_checkpoint(arguments: argparse.Namespace) -> Checkpoint:
    if arguments.dry_run:
        return NullCheckpoint()
    try:
        return Checkpoint(arguments.state)
    except OSError as error:
        raise DataError(f"--state: {describe_os_error(error)}; give a folder that this user may write") from error


def wait_for_model(client: Client, arguments: argparse.Namespace, wait: RetryWait) -> ModelInfo:
    """Get the description of the model, and wait while the server can't be reached, does not answer or is loading it.

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
        except (DeadlineError, ModelUnavailableError) as error:
            wait(attempt, ConnectionFailedError(error.message))


def make_retry_wait(stop: Event, before_wait: Callable[[], None] = lambda: None) -> RetryWait:
    """Return a function that waits before another attempt, longer each time, and raises the error if `stop` is set meanwhile."""

    def wait(attempt: int, error: ConnectionFailedError) -> None:
        if attempt == 1:
            logger.warning("server_unreachable", extra={"error": error.message, "hint": "nothing is judged until it answers"})
        before_wait()
        if stop.wait(min(0.1 * 2 ** min(attempt, 10), MAX_WAIT_SECONDS)):
            raise error

    return wait


@contextmanager
def install_signal_handlers(stop: Event) -> Iterator[None]:
    """Set `stop` at the first SIGINT or SIGTERM; a second one of the same kind kills the process. SIGUSR1 does nothing yet.

    The former handlers are back when the context ends.
    """

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    former_handlers = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    former_handlers[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in former_handlers.items():
            signal.signal(number, handler)
