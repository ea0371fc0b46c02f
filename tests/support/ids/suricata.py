"""Real Suricata, of the packages that `.ci/run` unpacks, run over a capture."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.proxies import TOOLS

SECONDS = 120
TYPES = ("flow", "dns", "http", "tls", "ssh", "sip", "stats")
NO_RULES = Path("/dev/null")


@dataclass(frozen=True)
class Suricata:
    """A release, unpacked with its own C library."""

    version: int

    @property
    def root(self) -> Path:
        return TOOLS / f"suricata{self.version}"

    @property
    def is_there(self) -> bool:
        return (self.root / "usr" / "bin" / "suricata").exists()

    def run(self, capture: Path, folder: Path, output: str, *options: str, rules: Path = NO_RULES) -> None:
        """Read a capture to its end.

        Args:
            capture: The packets.
            folder: For its log and the files of its outputs.
            output: Settings of the eve-log, as lines of YAML.
            options: Further arguments.
            rules: Rules of its alerts.
        """
        folder.mkdir(exist_ok=True)
        settings = folder / "outputs.yaml"
        indented = "".join(f"      {line}\n" for line in ["enabled: yes", *output.splitlines()])
        settings.write_text(f"%YAML 1.1\n---\noutputs:\n  - eve-log:\n{indented}unix-command:\n  enabled: no\n")
        etc = self.root / "etc" / "suricata"
        libraries = [self.root / path for path in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib")]
        loader = next(path for folder in libraries for path in folder.glob("ld-linux-*.so.*"))
        command = [loader, "--library-path", ":".join(map(str, libraries)), self.root / "usr/bin/suricata"]
        command += ["-c", etc / "suricata.yaml", "--include", settings, "-S", rules, "-l", folder, "-r", capture]
        for name in ("classification", "reference"):
            command += ["--set", f"{name}{'-config' if name == 'reference' else ''}-file={etc / name}.config"]
        done = subprocess.run([*map(str, command), *options], capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr + done.stdout

    def read(
        self,
        capture: Path,
        folder: Path,
        *settings: str,
        types: Sequence[str] = TYPES,
        options: Sequence[str] = (),
        rules: Path = NO_RULES,
    ) -> list[Path]:
        """Read a capture into files; return them.

        Args:
            capture: The packets.
            folder: For the files.
            settings: Lines of YAML for the eve-log.
            types: Types of events, each with its own settings after a colon and a space.
            options: Further arguments.
            rules: Rules of its alerts.
        """
        lines = ["filetype: regular", "filename: eve.json", *settings, "types:", *(f"  - {kind}" for kind in types)]
        self.run(capture, folder, "\n".join(lines), *options, rules=rules)
        return sorted(folder.glob("eve*.json"))


def releases():
    """Return the releases as parameters of a test, which is skipped where one is not unpacked."""
    return [
        pytest.param(
            each,
            id=f"suricata{each.version}",
            marks=pytest.mark.skipif(not each.is_there, reason=f"no {each.root} (.ci/run unpacks it)"),
        )
        for each in (Suricata(7), Suricata(8))
    ]
