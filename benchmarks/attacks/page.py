"""The tables of the results, in Markdown."""

from collections import Counter
from statistics import median

from benchmarks.attacks.score import LEVELS
from benchmarks.attacks.workflow import FIT_SHARE

NOTES = """\
Attacks are placed on the last day, one to a host or a few far apart; models learn from the days before. How to read the tables:

- **Budget.** "1 a day", "1 a month": so many false alarms are allowed for each host, and the threshold is known beforehand,
  from the clean days; so is "10 false a day in all", which shares them among the hosts, at the level before it adapts. "10 a
  day in all": the 10 most extreme episodes of the last day on all hosts together, right or false, whose threshold is only
  known when the day is over. "10 events a day in all": the same, but alerts of no attack count once for each event of a
  background. Fixed rules have thresholds of their own and no budget.
- **Found**, of the attacks placed; in brackets the median **delay**: minutes from an attack's first record to the end of the
  window that raised the first alert of it. Live, alerts come later by the allowed lateness. An alert of a model is of an attack
  if it is on its host and its window overlaps it, or begins at most {grace:.0f} minutes after it. An alert of a fixed rule, of
  the host or of the whole site, must also name a peer, a domain or a record of the attack. *At 0.3* are the attacks with 0.3
  times their connections; the last columns are kinds of attacks.
- **By chance** so many would be found by alerts as frequent as the false ones, at random times.
- **False** are the other alerts of the last day; *allowed* is how many of them the budget allows. An alert on a host that an
  attack reaches inside is neither. *Events* is how many they are if those of one background at one time of it count as one.
- **Methods.** *model* is what `mods-grpc replay` raises, which judges each host by what it usually reaches itself; *no
  envelope* is the same model judged by its calibration alone, at the level before it adapts. The others have the columns of
  the model, learn from the first {fit:.0f} % of the clean days and get the threshold of their budget from the rest.
  Persistence is the change since the window before, as a robust z; *own 99 % quantile* is the largest excess of a column over
  that of the host.
- **Calibration** is whether p-values are what they say: of the rows without an attack, how many have a p-value at or below a
  level, how many should have, and how many times as many it is. Above 1, there are more false alarms than the budget says."""

FALSE_OF_CLEAN = (
    "False alerts and calibration are of the one host without attacks, whose traffic the others have as well; fixed rules that "
    "count over the whole site see it so many times."
)
FALSE_OF_FLEET = (
    "Hosts made of one background share its events, so that one of them can be false on many hosts. P-values are of all hosts."
)
ABSENT_SCENE = "Left out: no background host is a server."


def format_notes(settings):
    """Say how to read the tables."""
    return NOTES.format(grace=settings.grace / 60, fit=100 * FIT_SHARE)


def format_scene(scene, windows):
    """Return what a scene is made of; None is one that there is no host for."""
    if scene is None:
        return ABSENT_SCENE
    captures = Counter(each.capture for each in scene.placements)
    placed = ", ".join(f"{n} {name}" for name, n in captures.items())
    numbers = f"{len(scene.groups)} hosts, {scene.days} days, {scene.records:,} lines of logs, windows `{windows.name}`"
    of_false = FALSE_OF_CLEAN if scene.clean else FALSE_OF_FLEET
    lines = [
        f"{numbers}; {len(scene.placements)} attacks on the last day: {placed}. {of_false}",
        *_list_lacks(scene),
        "",
        "| background | group | days | connections a day | hosts made of it |",
        "|---|---|--:|--:|--:|",
    ]
    for source in scene.sources:
        folders = ", ".join(source["folders"])
        numbers = f"{source['days']} | {source['connections_per_day']:,} | {source['hosts']}"
        lines.append(f"| {folders} | {source['group']} | {numbers} |")
    return "\n".join(lines)


def _list_lacks(scene):
    """Yield paragraphs on what a scene lacks."""
    cut = {each.capture: each.cut for each in scene.placements if each.cut}
    if cut:
        names = ", ".join(f"{name} ({count:,} records)" for name, count in cut.items())
        yield f"\nLonger than the day, and placed without what ends after it: {names}."
    if scene.unread:
        names = ", ".join(f"{name} ({count:,})" for name, count in scene.unread.items())
        yield f"\nMissing, because they could not be read, are lines of {names}."
    if scene.unplaced:
        yield f"\nNot placed, or not as often, because no record ends on the day: {', '.join(scene.unplaced)}."
    if any(source["days"] == 1 and source["hosts"] for source in scene.sources):
        yield "\nHosts of a background of one day have it on all days: what is false there was learned, and is too little."


def format_result(scene, result):
    """Return the tables of a recipe in a scene."""
    columns = ", ".join(f"`{key}`" for key in result.recipe.ordered_keys)
    parts = [f"Columns ({len(result.recipe.keys)}): {columns}."]
    if result.absent:
        parts.append("Left out, because the logs have none of it: " + ", ".join(f"`{key}`" for key in result.absent) + ".")
    parts.append(_format_scored(scene, result))
    if result.doubts:
        parts.append("Doubts of `aggregate` and `replay`: " + "; ".join(result.doubts) + ".")
    if any(result.notices.values()):
        raised = ", ".join(f"`{code}` {count} times" for code, count in sorted(result.notices.items()) if count)
        parts.append(f"Replay also raised notices that monitoring is impaired: {raised}.")
    if result.rules_before is not None:
        parts.append(f"On the days before, which have no attacks, the fixed rules raised {result.rules_before} alerts.")
    parts.append(_format_outcomes(scene, result.outcomes))
    if result.calibrations:
        parts.append(_format_calibrations(result.calibrations))
    return "\n\n".join(parts)


def _format_scored(scene, result):
    text = f"The model scored {100 * result.scored:.1f} % of the rows of the last day; the others had missing values."
    if result.unscored_hosts:
        text += f" It scored none of {result.unscored_hosts} of {len(scene.groups)} hosts."
    if result.unscored_attacks:
        names = Counter(scene.placements[number].capture for number in result.unscored_attacks)
        attacks = ", ".join(f"{count} {name}" for name, count in names.items())
        text += f" It scored no row during {len(result.unscored_attacks)} attacks, which it can't find: {attacks}."
    return text


def _format_outcomes(scene, outcomes):
    placements = scene.placements
    kinds = list(dict.fromkeys(each.kind for each in placements))
    strengths = sorted({each.strength for each in placements})
    head = [
        "method",
        "budget",
        f"found of {len(placements)} (min)",
        "by chance",
        "false",
        "events",
        "allowed",
        *(f"at {strength:g}" for strength in strengths),
        *kinds,
    ]
    lines = [_row(head), _row(["---", "---", *["--:"] * (len(head) - 2)])]
    for outcome in outcomes:
        cells = [
            outcome.method,
            outcome.budget,
            _cell(outcome, range(len(placements)), with_total=False),
            f"{outcome.chance:.1f}",
            str(len(outcome.false)),
            str(outcome.events),
            "" if outcome.allowed is None else f"{outcome.allowed:.3g}",
        ]
        groups = [[n for n, each in enumerate(placements) if each.strength == strength] for strength in strengths]
        groups += [[n for n, each in enumerate(placements) if each.kind == kind] for kind in kinds]
        lines.append(_row(cells + [_cell(outcome, group, with_total=True) for group in groups]))
    return "\n".join(lines)


def _cell(outcome, numbers, *, with_total):
    delays = [outcome.delays[number] for number in numbers if number in outcome.delays]
    total = f"/{len(numbers)}" if with_total else ""
    return f"{len(delays)}{total}" + (f" ({median(delays) / 60:.0f})" if delays else "")


def _format_calibrations(calibrations):
    head = ["p-values of", "group", "rows", *(f"≤ {level:.0e}".replace("e-0", "e-") for level in LEVELS)]
    lines = [
        "Calibration: rows with so small a p-value, of how many there should be, and the ratio:",
        "",
        _row(head),
        _row(["---", "---", *["--:"] * (len(head) - 2)]),
    ]
    for each in calibrations:
        expected = [level * each.rows for level in LEVELS]
        cells = [
            f"{count:,} of {_round(due)} ({_round(count / due)})" for count, due in zip(each.observed, expected, strict=True)
        ]
        lines.append(_row([each.method, each.group, f"{each.rows:,}", *cells]))
    return "\n".join(lines)


def _round(number):
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _row(cells):
    return "| " + " | ".join(cells) + " |"
