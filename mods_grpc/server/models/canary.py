"""The canary: a child process with limits on memory, time and processor that loads a model first, and may die of it.

`python -m mods_grpc.server.models.canary` takes a JSON line on standard input and answers with one on standard output. It reads
the version, checks it as the server will, and runs one batch as large as the server will ever run.
"""

import json
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
_MODULE = "mods_grpc.server.models.canary"


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryLimits:
    """Limits of a canary.

    Attributes:
        memory_mib: Private memory it may allocate in MiB, its libraries included.
        seconds: Time on the clock it may take, and twice that of the processor's.
        largest_batch: Windows in the largest batch the server runs.
    """

    memory_mib: int
    seconds: float
    max_batch: int


class Canary:
    """Tries versions in child processes, one at a time.

    Args:
        limits: What a child may take.
    """

    def __init__(self, limits: CanaryLimits) -> None:
        self._limits = limits
        self._child: subprocess.Popen[str] | None = None
        self._stopped = False

    def check(self, repository: Path, name: str, version: int, provider: str) -> str:
        """Check a version in a child process.

        Returns:
            Digest of the manifest that was checked; what is loaded afterwards must have the same.

        Raises:
            ArtifactError: The version was refused, or the child did not survive it.
        """
        task = {"repository": str(repository), "name": name, "version": version, "provider": provider, **asdict(self._limits)}
        pipe = subprocess.PIPE
        try:
            child = subprocess.Popen(  # noqa: S603 - our own module
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
        """Let no child hold up the end of the server."""
        self._stopped = True
        child = self._child
        if child is not None:
            child.kill()

    def _read_result(self, code: int, output: str) -> str:
        if code == -signal.SIGXCPU:
            raise ArtifactError(f"canary: took more than {cpu_seconds(self._limits.seconds)} s of processor time")
        if code == OUT_OF_MEMORY_EXIT:
            raise ArtifactError(f"canary: needs more than {self._limits.memory_mib} MiB of memory")
        if code < 0:
            raise ArtifactError(f"canary: was ended by {signal.Signals(-code).name}")
        try:
            answer = json.loads(output[-MAX_OUTPUT_CHARACTERS:].splitlines()[-1])
            digest, failure = str(answer["digest"]), str(answer["failure"])
        except (IndexError, KeyError, TypeError, ValueError):
            raise ArtifactError(f"canary: ended with {code} and without a verdict") from None
        if failure:
            raise ArtifactError(failure)
        return digest


def cpu_seconds(seconds: float) -> int:
    """Return the limit on processor time that goes with one on the clock."""
    return max(1, round(2 * seconds))


def run_task(task: dict[str, Any]) -> str:
    """Do what the child is asked to, and return the digest of the manifest.

    Raises:
        ArtifactError: The version is refused.
    """
    import numpy as np  # noqa: PLC0415 - the limits come first

    from mods_grpc.artifact import read_artifact  # noqa: PLC0415
    from mods_grpc.server.onnx.open_session import open_session  # noqa: PLC0415

    artifact = read_artifact(Path(task["repository"]), task["name"], task["version"])
    session = open_session(artifact, task["provider"])
    manifest = artifact.manifest
    largest = np.ones((task["max_batch"], manifest.rows, len(manifest.features)))
    for file, graph in session.graphs:
        try:
            found = graph.forecast(largest, np.zeros(len(largest), np.int64))
        except MemoryError:
            raise
        except Exception as error:
            if _is_out_of_memory(error):
                raise MemoryError from error
            raise ArtifactError(f"{file}: can't run a batch of {len(largest)}") from error
        if found.shape != (len(largest), manifest.horizon, manifest.calibration.outputs_per_feature * len(manifest.features)):
            raise ArtifactError(f"{file}: forecasts of a batch of {len(largest)} have another shape")
    return artifact.digest


def main() -> int:
    """Be the child."""
    task = json.loads(sys.stdin.read())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    processor, memory = cpu_seconds(task["seconds"]), task["memory_mib"] << 20
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    answer = {"digest": "", "failure": ""}
    try:
        answer["digest"] = run_task(task)
    except MemoryError:
        return OUT_OF_MEMORY_EXIT
    except ArtifactError as error:
        cause = error.__cause__
        if isinstance(cause, MemoryError) or (cause is not None and _is_out_of_memory(cause)):
            return OUT_OF_MEMORY_EXIT
        answer["failure"] = error.message
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell whether ONNX Runtime, whose errors are all alike, ran out of memory."""
    text = str(error).lower()
    return any(sign in text for sign in ("bad_alloc", "failed to allocate", "out of memory"))


if __name__ == "__main__":
    sys.exit(main())
