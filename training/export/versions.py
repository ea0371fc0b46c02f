"""What a version to publish is called, and its default budget."""

from pathlib import Path

from mods_grpc.artifact import list_versions
from mods_grpc.artifact.manifest import NAME_PATTERN
from mods_grpc.errors import ArtifactError

DEFAULT_FALSE_ALARMS_PER_DAY = 1.0


def next_version(repository: Path, name: str) -> int:
    """Return the highest published version of a model plus 1; 1 for a new model.

    Raises:
        ArtifactError: The name can't be that of a model.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ArtifactError(f"model name {name!r} does not match {NAME_PATTERN.pattern}")
    if not repository.exists():
        return 1
    return max((version for model, version in list_versions(repository) if model == name), default=0) + 1
