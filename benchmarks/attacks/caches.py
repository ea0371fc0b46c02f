"""Names of cached results, which depend on all that the results depend on, so that none is stale."""

import json
from hashlib import blake2b
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SCENE_PARTS = ("backgrounds", "captures", "fleet", "scene", "zeek_logs")
_SCENE_MODULES = tuple(f"benchmarks/attacks/{name}.py" for name in ("__main__", *_SCENE_PARTS))
_AGGREGATING = ("mods_grpc/features", "mods_grpc/data", "mods_grpc/ids", "mods_grpc/cli", "benchmarks/attacks/product.py")
_PRODUCT = ("mods_grpc", "training", "benchmarks/attacks/recipes.py", "benchmarks/attacks/product.py")


def digest(*values):
    """Return a short name of values that JSON can hold."""
    return blake2b(json.dumps(values).encode(), digest_size=6).hexdigest()


def scene_key(options, folders):
    """Return the key of a scene with some options, from folders of logs."""
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    listing = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return digest(options, listing, _read_sources(_SCENE_MODULES))


def aggregate_key():
    """Return the key of what `mods-grpc aggregate` writes."""
    return digest(_read_sources(_AGGREGATING))


def product_key(*options):
    """Return the key of what the product as a whole does with some options."""
    return digest(options, _read_sources(_PRODUCT))


def _read_sources(paths):
    """Return a digest of source files and of those in folders."""
    state = blake2b(digest_size=16)
    for path in map(ROOT.joinpath, paths):
        for file in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            state.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return state.hexdigest()
