"""Builds the parts of watch and replay from the flags and the model's description."""

import argparse
import dataclasses
import importlib.util
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mods_grpc.alarm_rules.adaptation import check_budget, describe_unproven
from mods_grpc.alarm_rules.extent import holdoff
from mods_grpc.cli.arguments import DEFAULT_ALERTS, EVE_LATENESS_SECONDS, LATENESS_SECONDS, find_rules_off
from mods_grpc.cli.live.live_view import LiveView
from mods_grpc.cli.output import format_time, replace_unprintable
from mods_grpc.client import Client, ModelInfo, ModelState
from mods_grpc.errors import ConnectionFailedError, DataError, ModelUnavailableError, ModelUnusableError, Reason
from mods_grpc.features import Aggregator, AggregatorOptions, GroupBy
from mods_grpc.features.definitions import MEMORY_KEYS
from mods_grpc.features.key_memory import LEARNING_SECONDS
from mods_grpc.features.presets import PRESETS
from mods_grpc.features.records import Dns
from mods_grpc.ids.alerts.alert import Alert, Severity, format_headline
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.formats.registry import Format
from mods_grpc.ids.alerts.mutes.suppression import Suppression
from mods_grpc.ids.alerts.mutes.suppression_file import read_suppression
from mods_grpc.ids.alerts.notice import Notice, format_notice_headline
from mods_grpc.ids.alerts.roll_up.roll_up import RollUp, RollUpOptions
from mods_grpc.ids.alerts.rule_alert import RuleAlert, format_rule_headline
from mods_grpc.ids.alerts.series_patterns import find_useless
from mods_grpc.ids.alerts.sinks.destination import open_sinks
from mods_grpc.ids.alerts.sinks.group import SinkGroup
from mods_grpc.ids.alerts.sinks.sink import Sink, StreamSink
from mods_grpc.ids.alerts.sinks.target import parse_destination
from mods_grpc.ids.evidence.evidence import Evidence
from mods_grpc.ids.health.account import Account, RejectedLines
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.doubts import Expectation
from mods_grpc.ids.rules.engine import RuleEngine, choose_rules
from mods_grpc.ids.rules.episodes import RuleAlertOptions
from mods_grpc.ids.rules.muting import find_wrong_rule, find_wrong_word
from mods_grpc.ids.rules.rule import RULE_NAMES, RULES
from mods_grpc.ids.sources.file_names import parse_name
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.watch.accounting import AccountLog, make_expectation, take_account
from mods_grpc.ids.watch.monitoring import watched_features
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.watch.scoring.options import ScoringOptions
from mods_grpc.ids.watch.scoring.scoring_client import ScoringClient
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.recorded import is_of_host
from mods_grpc.ids.windows.second_look import make_second_look
from mods_grpc.ids.windows.window import WindowColumns
from mods_grpc.ids.windows.window_evidence import WindowEvidence

logger = logging.getLogger(__name__)


def _format_alert_plainly(alert: Alert) -> str:
    return _format_plainly(alert.window_start, alert.severity, str(alert.phase), format_headline(alert))


def _format_notice_plainly(notice: Notice) -> str:
    return _format_plainly(notice.time, notice.severity, str(notice.state), format_notice_headline(notice))


def _format_rule_plainly(alert: RuleAlert) -> str:
    return _format_plainly(alert.window_end, alert.severity, str(alert.phase), format_rule_headline(alert))


def _format_plainly(when: datetime, severity: Severity, word: str, headline: str) -> str:
    return f"{format_time(when)}  {severity.name.lower():8}  {word:6}  {replace_unprintable(headline)}"


PLAIN = Format(
    format_alert=_format_alert_plainly,
    format_rule_alert=_format_rule_plainly,
    format_notice=_format_notice_plainly,
    media_type="text/plain",
)
"""The format of a dry run: a line for people."""


def get_ready_model(client: Client, arguments: argparse.Namespace) -> ModelInfo:
    """Get the description of the model, which is complete only once the model is loaded.

    Raises:
        ModelUnavailableError: It is still loading.
        ModelUnusableError: It could not be loaded, or was retired.
    """
    model = client.model(arguments.model, arguments.model_version)
    if model.state is ModelState.LOADING:
        raise ModelUnavailableError(Reason.MODEL_LOADING, f"{model.name} {model.version} is still loading", retry_seconds=1.0)
    if model.state is not ModelState.READY:
        raise ModelUnusableError(Reason.MODEL_FAILED, f"{model.name} {model.version} is {model.state.lower()}: {model.failure}")
    return model


def check_windows(arguments: argparse.Namespace, model: ModelInfo) -> None:
    """Compare --window and --slide with the model's.

    Raises:
        DataError: They differ.
    """
    for name, given, trained in (
        ("window", arguments.window, model.window_seconds),
        ("slide", arguments.slide, model.slide_seconds),
    ):
        if given is not None and given != trained:
            raise DataError(f"--{name}: {model.name} was trained with {trained:g} s, found {given:g} s; leave the flag out")


def make_columns(arguments: argparse.Namespace, model: ModelInfo, datapool: Path | None = None) -> WindowColumns:
    """Map the model's features to aggregates; warn if they are of a preset by host and a series is none.

    Args:
        arguments: The flags.
        model: The model as the server describes it.
        datapool: Folder of the windows; None where they are computed from logs.

    Raises:
        DataError: A feature has no aggregate.
    """
    columns = WindowColumns(model.features, dict(arguments.features))
    if is_of_host(datapool) if datapool is not None else arguments.group_by is GroupBy.HOST:
        return columns
    advice = "give" if datapool is None else "replay the folder of a host that aggregate wrote with"
    source = {"group_by": str(arguments.group_by)} if datapool is None else {"datapool": str(datapool)}
    for name, preset in PRESETS.items():
        if preset.is_by_host and set(preset.keys) == set(columns.keys):
            hint = (
                f"it has the columns of preset {name}, whose series are hosts: {advice} --group-by host if it was trained on them"
            )
            logger.warning("series_not_hosts", extra={"model": model.name, **source, "hint": hint})
    return columns


def choose_lateness(arguments: argparse.Namespace, *, has_shared_log: bool) -> None:
    """Set the allowed lateness where no flag does; a log of several protocols is Suricata's."""
    if arguments.lateness is None:
        arguments.lateness = EVE_LATENESS_SECONDS if has_shared_log else LATENESS_SECONDS


def make_aggregator(arguments: argparse.Namespace, model: ModelInfo, columns: WindowColumns) -> Aggregator:
    """Make an aggregator with the model's windows and features."""
    options = AggregatorOptions(
        window_seconds=round(model.window_seconds),
        slide_seconds=round(model.slide_seconds),
        group_by=arguments.group_by,
        local_networks=tuple(arguments.local),
        with_panes=bool(columns.has_panes.any()),
    )
    return Aggregator(columns.definition, options)


def make_rules(arguments: argparse.Namespace) -> RuleEngine | None:
    """Make what runs the fixed rules that are on; None if none is.

    Rules of domains need the list of public suffixes, which the base install has not.
    """
    off = set(find_rules_off(arguments))
    if importlib.util.find_spec("publicsuffixlist") is None:
        domain_rules = {rule.name for rule in RULES if rule.record_type is Dns} - off
        for name in sorted(domain_rules):
            logger.warning("rule_off", extra={"rule": name, "hint": "it needs publicsuffixlist: pip install 'mods-grpc[ids]'"})
        off |= domain_rules
    if not (rules := choose_rules(dict(arguments.rule), off)):
        return None
    options = RuleAlertOptions(
        sensor=arguments.sensor,
        ends=_raises_ends(arguments),
        suppression=make_suppression(arguments),
        group_by=arguments.group_by,
        local_networks=tuple(arguments.local),
    )
    return RuleEngine(rules, options)


def join_protocols(columns: WindowColumns, rules: RuleEngine | None) -> tuple[str, ...]:
    """Return the protocols whose logs are read: those of the model's features, then those that only rules need."""
    return tuple(dict.fromkeys([*columns.definition.protocols, *(() if rules is None else rules.protocols)]))


def make_blindness(arguments: argparse.Namespace, model: ModelInfo, columns: WindowColumns | None, *, live: bool) -> Blindness:
    """Make what raises notices.

    Args:
        arguments: The flags.
        model: The model as the server describes it.
        columns: Its features; None where they are not computed.
        live: Whether the logs are followed; a recording has its own time, and always begins with warming up.
    """
    options: dict[str, Any] = {}
    learning = 0.0
    if has_memory(columns):
        learning = LEARNING_SECONDS + model.window_seconds  # in which nothing can be judged anyway
        options = {"warm_up_seconds": learning}
    if not live:
        warm_up = model.window_rows * model.slide_seconds + model.window_seconds + learning
        options = {"warm_up_seconds": warm_up, "max_step_seconds": None}
    return Blindness(arguments.sensor, watched_features(model, columns), window_seconds=model.window_seconds, **options)


def has_memory(columns: WindowColumns | None) -> bool:
    """Return whether features are missing until a series has a memory of what it had seen."""
    return columns is not None and not MEMORY_KEYS.isdisjoint(columns.keys)


def make_sinks(arguments: argparse.Namespace, state: Path | None) -> SinkGroup:
    """Open the sinks of --alerts, or one that only prints for --dry-run.

    Args:
        arguments: The flags.
        state: Folder for the history and for what could not be delivered; None to keep nothing.
    """
    if arguments.dry_run:
        return SinkGroup([("stdout", StreamSink(PLAIN))], ends=arguments.ends, is_patient=False)
    return open_sinks(arguments.alerts or [DEFAULT_ALERTS], state, ends=arguments.ends)


def _raises_ends(arguments: argparse.Namespace) -> bool:
    """Return whether ends of episodes are raised: if asked for, for the live view, and for the history of a watch.

    Destinations get them only if they were asked for, see `make_sinks`.
    """
    return arguments.ends or arguments.tui or (hasattr(arguments, "state") and not arguments.dry_run)


def check_destinations(arguments: argparse.Namespace, sources: Sequence[Path]) -> None:
    """Check that no destination of --alerts is a log that is read.

    Args:
        arguments: The flags.
        sources: Files and folders of logs.

    Raises:
        DataError: One is.
    """
    for destination in arguments.alerts:
        target = parse_destination(destination)
        if target.scheme != "file":
            continue
        path = Path(target.place).resolve()
        is_log = parse_name(path.name).protocol is not None
        for source in (source.resolve() for source in sources):
            if is_log and source in path.parents if source.is_dir() else path == source:
                raise DataError(f"--alerts {destination}: is a log that is read, or is called like one; give another file")


def _uses_envelope(arguments: argparse.Namespace, model: ModelInfo) -> bool:
    """Return whether series are judged by their own envelopes; warn if they should be and the model has none."""
    if arguments.own_envelope is not None:
        is_asked_for = bool(arguments.own_envelope)
    else:
        recorded = [path for path in getattr(arguments, "logs", []) if path.is_dir()]
        is_asked_for = arguments.group_by in (GroupBy.HOST, GroupBy.SUBNET) or any(map(is_of_host, recorded))
    if is_asked_for and not model.envelope:
        hint = "calibrate it again (python -m training recalibrate), or give --no-own-envelope"
        logger.warning("no_envelope", extra={"model": model.name, "version": model.version, "hint": hint})
    return is_asked_for


def _warn_of_unproven_budget(arguments: argparse.Namespace, model: ModelInfo) -> None:
    budget = choose_budget(arguments, model)
    if budget is None or arguments.total_false_alarms_per_day is not None or not model.calibration_days:
        return
    if (what := describe_unproven(budget, model.calibration_days)) is not None:
        hint = "calibrate on a longer range (python -m training recalibrate), or allow more false alarms"
        logger.warning("budget_unproven", extra={"model": model.name, "version": model.version, "what": what, "hint": hint})


def make_pipeline(
    arguments: argparse.Namespace,
    client: Client,
    model: ModelInfo,
    namespace: str,
    sink: Sink,
    *,
    blindness: Blindness,
    rules: RuleEngine | None = None,
    evidence: WindowEvidence | None = None,
    columns: WindowColumns | None = None,
    wait: Callable[[int, ConnectionFailedError], None] | None = None,
    view: LiveView | None = None,
) -> WatchPipeline:
    """Make the pipeline from windows to alerts; `WatchPipeline.open` connects it.

    Args:
        arguments: The flags.
        client: The server.
        model: The model as the server describes it.
        namespace: Namespace of the series on the server.
        sink: Gets the alerts and notices.
        blindness: Raises the notices.
        rules: Raises the alerts of fixed rules; None for no rules.
        evidence: Says which entities made a window; None where windows are read in place of logs.
        columns: The aggregates that the model's features are; None where that is not known.
        wait: Called before each further attempt to reach the server; see `ScoringClient`.
        view: Shows verdicts, alerts and notices.
    """
    _warn_of_unproven_budget(arguments, model)
    scorer = ScoringClient(
        client,
        model,
        ScoringOptions(
            model=model.name,
            version=arguments.model_version,
            namespace=namespace,
            false_alarms_per_day=choose_budget(arguments, model),
            significance=arguments.significance,
            total_false_alarms_per_day=arguments.total_false_alarms_per_day,
            impute_rows=arguments.impute_rows,
            explain="all" if arguments.tui else "anomalies",
            fixed_level=arguments.fixed_level,
            own_envelope=_uses_envelope(arguments, model),
            max_episode_seconds=arguments.max_episode,
        ),
        wait,
    )
    blindness.watch_levels(scorer.list_changed_levels)
    options = AlertOptions(
        sensor=arguments.sensor,
        window_seconds=model.window_seconds,
        slide_seconds=model.slide_seconds,
        significance=arguments.significance or 1.0,  # for a budget, the server sends it when the stream opens
        false_alarms_per_day=choose_budget(arguments, model),
        ends=_raises_ends(arguments),
        max_episode_seconds=arguments.max_episode,
        suppression=make_suppression(arguments),
    )
    pipeline = WatchPipeline(
        scorer,
        Episodes(options, None if evidence is None else evidence.explain, scorer.recent_values),
        sink,
        blindness,
        roll_up=_make_roll_up(arguments, model),
        rules=rules,
        evidence=evidence,
        kinds={feature.name: feature.kind for feature in model.features},
        aggregates=None if columns is None else dict(zip(columns.names, columns.keys, strict=True)),
        look_again=None if evidence is None else _make_second_look(arguments),
        observe=None if view is None else view.observe,
        show_notices=None if view is None else view.show_notices,
        log_notices=not arguments.dry_run,
    )
    pipeline.set_suppression(options.suppression)  # so that fixed rules count in the same place
    return pipeline


def _make_roll_up(arguments: argparse.Namespace, model: ModelInfo) -> RollUp | None:
    if not arguments.roll_up:
        return None
    return RollUp(RollUpOptions(holdoff=holdoff(model.window_seconds, model.slide_seconds), ends=arguments.ends))


def _make_second_look(arguments: argparse.Namespace) -> Callable[[Alert], Evidence | None] | None:
    """Return what looks into the logs of an alert again; None where they are no files."""
    is_recorded = hasattr(arguments, "logs")
    paths = arguments.logs if is_recorded else filter(None, (arguments.zeek, arguments.eve, arguments.archive))
    if not (paths := [path for path in paths if path.is_file() or path.is_dir()]):
        return None
    return make_second_look(paths, arguments.local, arguments.group_by, follows=not is_recorded)


def make_account_log(
    arguments: argparse.Namespace,
    model: ModelInfo,
    columns: WindowColumns,
    reader: LogReader,
    rejected: RejectedLines,
    feed: WindowFeed,
    pipeline: WatchPipeline,
) -> AccountLog:
    """Make what logs the account of a watch: of what was read, of the windows, and of what was judged."""

    def take() -> Account:
        files_read = len(reader.position().files)
        return take_account(
            reader.counters,
            feed,
            pipeline.counters,
            files_read=files_read,
            rejected=rejected,
            rules=pipeline.rules,
            suppressed_by=pipeline.suppression.list_hits(),
        )

    def expect(now_ns: int) -> Expectation:
        return make_expectation(
            model,
            columns.definition.protocols,
            local_networks=arguments.local,
            lateness_seconds=arguments.lateness,
            now_ns=now_ns,
            is_live=True,
        )

    feedback = pipeline.feedback
    summarise = (lambda: None) if feedback is None else feedback.summarise
    return AccountLog(take, expect, arguments.account_interval, summarise=summarise)


def choose_budget(arguments: argparse.Namespace, model: ModelInfo) -> float | None:
    """Return the acceptable false alarms per series and day; None if a significance level was given.

    Raises:
        DataError: They are as many as the model's windows of a day.
    """
    if arguments.significance is not None:
        return None
    budget: float | None = arguments.false_alarms_per_day
    if budget is None:
        return model.default_false_alarms_per_day
    check_budget(budget, model.slide_seconds)
    return budget


def warn_of_useless_patterns(arguments: argparse.Namespace) -> None:
    """Log the patterns of --suppress that can never match a series of logs.

    Raises:
        DataError: The file is not one of such rules.
        OSError: It can't be read.
    """
    patterns = make_suppression(arguments).patterns
    of_hosts = find_useless(patterns, GroupBy.HOST, arguments.local)  # the rules are about hosts
    for pattern, series in find_useless(patterns, arguments.group_by, arguments.local).items():
        if pattern not in of_hosts and find_rules_off(arguments) != set(RULE_NAMES):
            continue
        fields = {"file": f"{arguments.suppress}{_find_line(arguments.suppress, pattern)}", "pattern": pattern}
        hint = f"with --group-by {arguments.group_by} {series}"
        logger.warning("pattern_matches_nothing", extra={**fields, "hint": hint})


def tell_of_past_work(arguments: argparse.Namespace) -> None:
    """Log the planned work of --suppress that is over, and its mute rules that have expired, which suppress nothing live."""
    suppression = make_suppression(arguments)
    for mute in suppression.mutes:
        if mute.is_expired(datetime.now(UTC)):
            logger.info("mute_expired", extra={"file": str(arguments.suppress), "rule": mute.id, "until": str(mute.until)})
    for window in suppression.maintenance:
        if window.repeat is None and window.end < datetime.now(UTC):
            logger.info(
                "planned_work_over", extra={"file": str(arguments.suppress), "name_of_work": window.name, "end": str(window.end)}
            )


def _find_line(path: Path, text: str) -> str:
    """Return the number of the line with a quoted text as `:NUMBER`; empty if several lines have it, or none has it so."""
    quoted = (f'"{text}"', f"'{text}'")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    numbers = [number for number, line in enumerate(lines, 1) if any(each in line for each in quoted)]
    return f":{numbers[0]}" if len(numbers) == 1 else ""


def make_suppression(arguments: argparse.Namespace) -> Suppression:
    """Read the rules of --suppress, with --minimum-severity.

    Raises:
        DataError: The file is not one of such rules.
        OSError: It can't be read.
    """
    suppression = Suppression() if arguments.suppress is None else read_suppression(arguments.suppress)
    if (wrong := find_wrong_word(suppression.muted_rules) or find_wrong_rule(suppression.mutes)) is not None:
        word, complaint = wrong
        raise DataError(f"{arguments.suppress}{_find_line(arguments.suppress, word)}: {complaint}")
    if arguments.minimum_severity is None:
        return suppression
    return dataclasses.replace(suppression, minimum_severity=arguments.minimum_severity)
