"""Says why a server has no model to serve, and what to do."""

from collections.abc import Iterable
from pathlib import Path

from mods_grpc.artifact import MANIFEST_FILE, list_versions
from mods_grpc.artifact.version_folder import VERSION_PATTERN
from mods_grpc.errors import ArtifactError
from mods_grpc.server.models.versions import VersionEntry, VersionState

MAX_LISTED = 3


def explain_unready(folder: Path, entries: Iterable[VersionEntry]) -> tuple[str, str]:
    """Return why no model is ready, and what to do.

    Args:
        folder: The model repository.
        entries: All versions in it, none of them still loading.
    """
    failures = [f"{entry.name}/{entry.version}: {entry.failure}" for entry in entries if entry.state is VersionState.FAILED]
    if failures:
        more = f"; and {len(failures) - MAX_LISTED} more" if len(failures) > MAX_LISTED else ""
        return "every version was refused: " + "; ".join(failures[:MAX_LISTED]) + more, _advise(failures)
    if (repository := _find_repository(folder)) is not None:
        return f"{folder} is a part of a repository, not the repository", f"start it with: mods-grpc serve {repository}"
    content = sorted(path.name for path in folder.iterdir())[:MAX_LISTED]
    listed = f"holds {', '.join(content)}" if content else "is empty"
    hint = "publish one with: python -m training export --repository; it is served as soon as it is there"
    return f"{folder} has no folder NAME/VERSION of a model; it {listed}", hint


def _find_repository(folder: Path) -> Path | None:
    """Return the repository near a folder that is none: above a model or a version, or below."""
    folder = folder.absolute()
    if (folder / MANIFEST_FILE).is_file():
        return folder.parent.parent
    if any(VERSION_PATTERN.fullmatch(path.name) and (path / MANIFEST_FILE).is_file() for path in folder.iterdir()):
        return folder.parent
    for path in sorted(folder.iterdir()):
        try:
            if path.is_dir() and list_versions(path):
                return path
        except ArtifactError:
            continue
    return None


def _advise(failures: list[str]) -> str:
    if any("signed" in failure or "manifest.sig" in failure for failure in failures):
        return "sign it with: mods-grpc sign FOLDER --key FILE, by a key of --trusted-key-file"
    if any("canary" in failure for failure in failures):
        return "see the log for the reason; --canary-memory-mib and --canary-seconds bound the trial in a child process"
    return "export the model again, or copy its folder whole; it is tried again when its files change"
