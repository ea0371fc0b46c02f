"""A command line as it is told to others, in cards and reports: without the folders of the machine it ran on."""

import shlex
from collections.abc import Sequence
from pathlib import Path


def tell(words: Sequence[str]) -> str:
    """Return the command line of `python -m training` with its words; a path that is absolute is told from here, or by its name.

    Args:
        words: Command and options, such as `["fit", "--csv", "/home/me/traffic.tsv"]`.
    """
    return shlex.join(["python", "-m", "training", *map(_without_place, words)])


def _without_place(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    path = Path(value).expanduser()
    if not path.is_absolute():
        return word
    here = Path.cwd()
    return option + equals + (str(path.relative_to(here)) if path.is_relative_to(here) else path.name)
