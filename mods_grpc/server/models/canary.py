"""The canary: a child process with limits on memory, time and CPU that loads a model version before the server does.

`python -m mods_grpc.server.models.canary` reads a task as one line of JSON from standard input and writes its result as one line
to standard output. It reads the version, checks it as the server does, and runs one batch of the server's maximum size.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mods_grpc.errors import ArtifactError

MAX_OUTPUT_CHARACTERS = 64 * 1024
OUT_OF_MEMORY_EXIT = 70
NICENESS = 10  # so that the child, which takes seconds of processor time, does not hold up the server's calls
_MODULE = "mods_grpc.server.models.canary"


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryLimits:
    """Limits of a canary.

    Attributes:
        memory_mib: Private memory in MiB, libraries included.
        seconds: Wall-clock time. The limit on CPU time is twice that.
        max_batch: Windows in the largest batch that the server runs.
    """

    memory_mib: int
    seconds: float
    max_batch: int


class Canary:
    """Loads versions in child processes, one at a time.

    Args:
        limits: Limits of each child.
    """

    def __init__(self, limits: CanaryLimits) -> None:
        self._limits = limits
        self._child: subprocess.Popen[str] | None = None
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def check(self, repository: Path, name: str, version: int, provider: str) -> str:
        """Check a version in a child process.

        Returns:
            Digest of the manifest that was checked. The version that is loaded afterwards must have the same.

        Raises:
            ArtifactError: The version was rejected, or the child exceeded a limit or crashed.
        """
        task = {"repository": str(repository), "name": name, "version": version, "provider": provider, **asdict(self._limits)}
        pipe = subprocess.PIPE
        try:
            child = subprocess.Popen(  # noqa: S603 - this package's own module
                [sys.executable, "-m", _MODULE], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
            )
        except OSError as error:
            raise ArtifactError(f"canary: can't be started ({error.strerror})") from error
        with child:
            self._child = child
            try:
                if self._stopped:
                    child.kill()
                output, _ = child.communicate(json.dumps(task), timeout=self._limits.seconds)
            except subprocess.TimeoutExpired:
                raise ArtifactError(f"canary: took longer than {self._limits.seconds:g} s") from None
            finally:
                child.kill()
                self._child = None
        return self._read_result(child.returncode, output)

    def stop(self) -> None:
        """Kill the running child, and every later one, so that none delays the server's shutdown."""
        self._stopped = True
        child = self._child
        if child is not None:
            child.kill()

    def _read_result(self, code: int, output: str) -> str:
        if code == -signal.SIGXCPU:
            raise ArtifactError(f"canary: took more than {compute_cpu_limit(self._limits.seconds)} s of processor time")
        if code == OUT_OF_MEMORY_EXIT:
            raise ArtifactError(f"canary: needs more than {self._limits.memory_mib} MiB of memory")
        if code < 0:
            raise ArtifactError(f"canary: was killed by {signal.Signals(-code).name}")
        try:
            result = json.loads(output[-MAX_OUTPUT_CHARACTERS:].splitlines()[-1])
            digest, failure = str(result["digest"]), str(result["failure"])
        except (IndexError, KeyError, TypeError, ValueError):
            raise ArtifactError(f"canary: exited with {code} and without a result") from None
        if failure:
            raise ArtifactError(failure)
        return digest


def compute_cpu_limit(seconds: float) -> int:
    """Return the limit on CPU time for a limit on wall-clock time."""
    return max(1, round(2 * seconds))


def run_task(task: dict[str, Any]) -> str:
    """Check a version inside the child, and return the digest of its manifest.

    Raises:
        ArtifactError: The version is rejected.
        MemoryError: It needs more memory than allowed.
    """
    import numpy as np  # noqa: PLC0415 - imported after the limits are set

    from mods_grpc.artifact import read_artifact  # noqa: PLC0415
    from mods_grpc.server.onnx.open_session import open_session  # noqa: PLC0415

    artifact = read_artifact(Path(task["repository"]), task["name"], task["version"])
    session = open_session(artifact, task["provider"])
    manifest = artifact.manifest
    windows = np.ones((task["max_batch"], manifest.rows, len(manifest.features)))
    for file, graph in session.graphs:
        try:
            forecasts = graph.forecast(windows, np.zeros(len(windows), np.int64))
        except MemoryError:
            raise
        except Exception as error:
            if _is_out_of_memory(error):
                raise MemoryError from error
            raise ArtifactError(f"{file}: can't run a batch of {len(windows)}") from error
        if forecasts.shape != (len(windows), manifest.horizon, manifest.calibration.outputs_per_feature * len(manifest.features)):
            raise ArtifactError(f"{file}: forecasts of a batch of {len(windows)} have another shape")
    return artifact.digest


def main() -> int:
    """Run as the child process and return its exit status."""
    task = json.loads(sys.stdin.read())
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    max_cpu_seconds, max_bytes = compute_cpu_limit(task["seconds"]), task["memory_mib"] << 20
    resource.setrlimit(resource.RLIMIT_CPU, (max_cpu_seconds, max_cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))
    result = {"digest": "", "failure": ""}
    try:
        result["digest"] = run_task(task)
    except MemoryError:
        return OUT_OF_MEMORY_EXIT
    except ArtifactError as error:
        cause = error.__cause__
        if isinstance(cause, MemoryError) or (cause is not None and _is_out_of_memory(cause)):
            return OUT_OF_MEMORY_EXIT
        result["failure"] = error.message
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of ONNX Runtime means out of memory. Its exceptions have no types to tell."""
    text = str(error).lower()
    return any(phrase in text for phrase in ("bad_alloc", "failed to allocate", "out of memory"))


if __name__ == "__main__":
    sys.exit(main())
