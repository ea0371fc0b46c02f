"""Place recorded attacks in real traffic, run the product on it, and print found, false and delay, as Markdown.

Usage: python -m benchmarks.attacks --background DIR... --attacks DIR... --local CIDR... [--hosts 200] [--strengths 0.3,1,3]
           [--budgets 1,1/30] [--total-budgets 1,10,20,50] [--recipes old,outward] [--scenes fleet,server] [--work DIR]

A background is a folder of days of Zeek's logs, TSV or JSON, of servers or workstations; `GROUP=DIR` names the group of its
hosts, which is found out otherwise. A folder of attacks holds a folder each, or is one. The local hosts are those in --local;
where none of these occurs, those with private addresses, and of an attack the one that is in all its records. Scenes:

fleet   --hosts hosts, each with a part of the traffic of a background host (benchmarks/attacks/fleet.py says which), an attack or
        none on each
server  the busiest exposed server with all its traffic, in copies with a few attacks each; trained on itself

The last day has the attacks, the days before are trained on as docs/tutorials/first-alert.md does with few days of logs. Scenes,
tables, models and alerts are kept in --work, and made again only if what they depend on has changed: the same command goes on
where it was stopped, and scenes and recipes can be run one by one. The figures of each are kept as JSON in --work/results.
"""

import argparse
import ipaddress
import json
import signal
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

from benchmarks.attacks import caches, page
from benchmarks.attacks.backgrounds import read_backgrounds
from benchmarks.attacks.captures import find_captures, find_deeper, read_capture
from benchmarks.attacks.fleet import choose_network, make_copies, make_fleet
from benchmarks.attacks.product import WindowGrid
from benchmarks.attacks.recipes import RECIPES, find_recipe
from benchmarks.attacks.scene import make_generator, place, read_scene, write_scene
from benchmarks.attacks.workflow import Settings, measure
from mods_grpc.atomic_file import write_atomically
from mods_grpc.data.units import SECONDS_PER_UNIT
from mods_grpc.errors import ModsError
from mods_grpc.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE

ATTACKS_PER_COPY = 3
SCENES = ("fleet", "server")
_STARTED = time.monotonic()


def report(text):
    print(f"[{time.monotonic() - _STARTED:6.0f} s] {text}", file=sys.stderr, flush=True)


def make_scenes(arguments):
    """Return the scenes by name, those made before or new ones; None for one that the backgrounds have no host for."""
    options = (
        *([str(network) for network in arguments.local], [group for group, _ in arguments.background]),
        *(arguments.hosts, arguments.days, arguments.strengths, arguments.repeats, arguments.seed),
    )
    key = caches.scene_key(options, [*(folder for _, folder in arguments.background), *arguments.attacks])
    folders = {name: arguments.work / f"{name}-{key}" for name in arguments.scenes}
    if any(read_scene(folder) is None for folder in folders.values()):
        _write_scenes(arguments, folders)
    return {name: read_scene(folder) for name, folder in folders.items()}


def _write_scenes(arguments, folders):
    report("read backgrounds")
    backgrounds = read_backgrounds(arguments.background, arguments.local, report)
    for host in backgrounds:
        report(f"  {host.address}: {host.group}, {len(host.days)} days, {host.connections_per_day:,.0f} connections a day")
    captures = [read_capture(folder, arguments.local) for folder in find_captures(arguments.attacks)]
    for folder in find_deeper(arguments.attacks):
        report(f"  {folder.name}: no attack, because its logs lie in folders below it")
    unread = {capture.name: capture.unread for capture in captures if capture.unread}
    for capture in captures:
        report(f"  {capture.name}: host {capture.host}, {len(capture.records)} records in {capture.seconds:,.0f} s")
        if capture.unread:
            report(f"  {capture.name}: {capture.unread} lines could not be read")
    network = choose_network(backgrounds, captures)
    days = arguments.days or max(2, *(len(host.days) for host in backgrounds))
    placed = len(arguments.strengths) * arguments.repeats  # times each
    for name, folder in folders.items():
        if read_scene(folder) is not None:
            continue
        generator = make_generator(arguments.seed, name)
        if name == "fleet":
            hosts, clean = make_fleet(backgrounds, arguments.hosts, days, network, generator), ()
        else:
            servers = [n for n, host in enumerate(backgrounds) if host.is_server]
            if not servers:
                report("no server among the backgrounds: the scene of a server is left out")
                continue
            source = max(servers, key=lambda number: backgrounds[number].connections_per_day)
            copies = max(placed, -(-len(captures) * placed // ATTACKS_PER_COPY))  # none has an attack twice
            hosts = make_copies(backgrounds, source, 1 + copies, days, network)
            clean = (hosts[0].address,)
        placements, records = place(
            captures, arguments.strengths, arguments.repeats, hosts, days, generator, is_on_clean=not clean
        )
        counts = Counter(placement.capture for placement in placements)
        unplaced = tuple(capture.name for capture in captures if counts[capture.name] < placed)
        report(f"write scene {name}: {len(hosts)} hosts, {len(placements)} attacks")
        write_scene(
            *(folder, hosts, backgrounds, days, f"{network}.0.0/16", placements, records, clean),
            *(_show_tenths, unplaced, unread),
        )


def _show_tenths(done, total):
    if done * 10 // total > (done - 1) * 10 // total:
        report(f"  {done} of {total} hosts")


def parse_arguments(words):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attacks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--background", nargs="+", required=True, type=_parse_background, metavar="DIR", help="days of traffic")
    parser.add_argument("--attacks", nargs="+", required=True, type=_parse_folder, metavar="DIR", help="attacks")
    parser.add_argument("--local", nargs="+", default=[], type=_parse_network, metavar="CIDR", help="local hosts or networks")
    parser.add_argument("--hosts", type=int, default=200, help="hosts of the fleet (default: %(default)s)")
    parser.add_argument("--days", type=int, help="days of a scene, at least 2 (default: those of the longest background)")
    parser.add_argument(
        "--strengths", type=_parse_numbers, default="0.3,1,3", help="times the connections (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=1, help="times each is placed at each strength (default: %(default)s)")
    parser.add_argument("--budgets", type=_parse_numbers, default="1,1/30", help="false alarms a series and day (%(default)s)")
    parser.add_argument(
        "--total-budgets",
        type=_parse_counts,
        default="1,10,20,50",
        help="alerts, or events, a day for all hosts (default: %(default)s)",
    )
    parser.add_argument(
        *("--recipe", "--recipes"),
        dest="recipes",
        type=_parse_recipes,
        default="old,datapool-outward,outward",
        help=f"columns, by commas: {', '.join(RECIPES)}; or one NAME=KEY,KEY (default: %(default)s)",
    )
    parser.add_argument("--scenes", type=_parse_scenes, default="fleet,server", help="scenes (default: %(default)s)")
    parser.add_argument("--window", type=_parse_span, default="10m", help="length of a window (default: %(default)s)")
    parser.add_argument("--slide", type=_parse_span, default="1m", help="time between windows (default: %(default)s)")
    parser.add_argument("--grace", type=_parse_span, default="10m", help="how late a window may begin (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of scenes and fits (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/attacks"), help="folder to work in (default: %(default)s)")
    arguments = parser.parse_args(words)
    if arguments.days is not None and arguments.days < 2:
        parser.error("--days: expected at least 2, one to train on and one with attacks")
    if min(arguments.hosts, arguments.repeats) < 1:
        parser.error("--hosts, --repeats: expected at least 1")
    if not arguments.slide <= arguments.window:
        parser.error("--slide: expected a span of at most the --window")
    return arguments


def _parse_background(text):
    group, has_group, folder = text.rpartition("=")
    return (group, _parse_folder(folder)) if has_group else ("", _parse_folder(text))


def _parse_network(text):
    return ipaddress.ip_network(text, strict=False)


def _parse_folder(text):
    if not (folder := Path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return folder.resolve()


def _parse_numbers(text):
    try:
        numbers = tuple(float(Fraction(part)) for part in text.split(","))
    except ZeroDivisionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if min(numbers) <= 0:
        raise argparse.ArgumentTypeError("expected numbers above 0")
    return numbers


def _parse_counts(text):
    counts = tuple(int(part) for part in text.split(","))
    if min(counts) <= 0:
        raise argparse.ArgumentTypeError("expected numbers above 0")
    return counts


def _parse_recipes(text):
    try:
        return [find_recipe(part) for part in ([text] if "=" in text else text.split(","))]
    except Exception as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parse_scenes(text):
    if unknown := set(text.split(",")) - set(SCENES):
        raise argparse.ArgumentTypeError(f"no scene {', '.join(unknown)}; there are {', '.join(SCENES)}")
    return text.split(",")


def _parse_span(text):
    if text[-1:] not in SECONDS_PER_UNIT or not text[:-1].isdecimal() or not int(text[:-1]):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0 and one of {', '.join(SECONDS_PER_UNIT)}, such as 10m")
    return int(text[:-1]) * SECONDS_PER_UNIT[text[-1]]


def _interrupt(_number, _frame):
    raise KeyboardInterrupt


def main(words=None):
    arguments = parse_arguments(words)
    signal.signal(signal.SIGTERM, _interrupt)  # so that the server is ended as well
    settings = Settings(
        windows=WindowGrid(arguments.window, arguments.slide),
        budgets=arguments.budgets,
        total_budgets=arguments.total_budgets,
        grace=arguments.grace,
        seed=arguments.seed,
        report=report,
    )
    try:
        scenes = make_scenes(arguments)
        if not any(scenes.values()):
            raise RuntimeError("no background host is a server, so that there is no scene")
        print(f"{page.format_notes(settings)}\n", flush=True)
        for name, scene in scenes.items():
            print(f"## Scene: {name}\n\n{page.format_scene(scene, settings.windows)}\n", flush=True)
            for recipe in arguments.recipes if scene else ():
                report(f"{name}, recipe {recipe.name}")
                result = measure(scene, recipe, settings)
                path = _save(arguments.work, scene, result)
                report(f"figures in {path}")
                print(f"### Recipe {recipe.name}: {recipe.purpose}\n\n{page.format_result(scene, result)}\n", flush=True)
        report("done")
    except KeyboardInterrupt:
        report("interrupted; what is finished is kept, the same command goes on from there")
        return EXIT_INTERRUPTED
    except ValueError as error:
        report(f"error: {error}")
        return EXIT_USAGE
    except (RuntimeError, ModsError, OSError) as error:
        report(f"error: {error}")
        return EXIT_FAILED
    return 0


def _save(work, scene, result):
    """Keep the figures of a recipe in a scene as JSON."""
    path = work / "results" / f"{scene.folder.name}-{result.recipe.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(result.to_json(scene), indent=1) + "\n").encode())
    return path


if __name__ == "__main__":
    sys.exit(main())
