"""Feeds random and damaged logs, names and flags to every way in, until the time is over, and writes down the seeds that fail.

Usage: python -m tests.fuzz --minutes 60 --seed 1 [--rounds recorded,followed] [--report FILE] [--one recorded:123]
"""

import argparse
import contextlib
import faulthandler
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType

from tests.fuzz.rounds import ROUNDS, SERVER

SECONDS_A_ROUND = 60
EXAMPLES = 3


def main() -> int:
    """Run rounds in turn; return 1 if one failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each further one has the next")
    parser.add_argument("--rounds", default=",".join(ROUNDS), help="kinds of rounds (default %(default)s)")
    parser.add_argument("--report", type=Path, help="file for the tracebacks")
    parser.add_argument("--one", metavar="KIND:SEED", help="run one round and leave its files in a folder")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    faulthandler.enable()
    signal.signal(signal.SIGALRM, _interrupt)
    if arguments.one:
        kind, _, seed = arguments.one.partition(":")
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        sys.stdout.write(f"{folder}\n")
        run_round(kind, int(seed), folder)
        return 0
    kinds, ends_at, seed = arguments.rounds.split(","), time.monotonic() + arguments.minutes * 60, arguments.seed
    runs: Counter[str] = Counter()
    failures: dict[str, list[str]] = {}
    while time.monotonic() < ends_at:
        kind = kinds[seed % len(kinds)]
        runs[kind] += 1
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            run_round(kind, seed, folder)
        except Exception as error:  # a failure of any kind
            _note(failures, kind, seed, error, arguments.report)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        seed += 1
    for kind in kinds:
        sys.stdout.write(f"{kind:10} {runs[kind]:8,} rounds\n")
    for what, seeds in sorted(failures.items(), key=lambda each: -len(each[1])):
        sys.stdout.write(f"{len(seeds):6} times  {what}  {' '.join(seeds[:EXAMPLES])}\n")
    sys.stdout.write(f"{sum(runs.values()):,} rounds, {sum(map(len, failures.values()))} failed\n")
    return int(bool(failures))


def run_round(kind: str, seed: int, folder: Path) -> None:
    """Run a round of a kind.

    Raises:
        Exception: It failed.
    """
    signal.alarm(SECONDS_A_ROUND)
    try:
        with contextlib.chdir(folder):  # values of flags are names of files too
            ROUNDS[kind](random.Random(f"{kind} {seed}"), folder)
    finally:
        signal.alarm(0)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError("a round took too long")


def _note(failures: dict[str, list[str]], kind: str, seed: int, error: Exception, report: Path | None) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(frames) if "mods_grpc" in frame.filename or "fuzz" in frame.filename), frames[-1])
    what = f"{kind}: {type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
    failures.setdefault(what, []).append(f"{kind}:{seed}")
    if report is not None and len(failures[what]) <= EXAMPLES:
        with report.open("a") as file:
            file.write(f"=== {kind}:{seed}\n{''.join(traceback.format_exception(error))[-4_000:]}\n")


if __name__ == "__main__":
    try:
        status = main()
    finally:
        SERVER.close()
    sys.exit(status)
