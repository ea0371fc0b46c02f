"""Frozen dataclasses as strict JSON: what is read has exactly the keys and types declared, and finite numbers only.

Keys that have a default may be absent: they are younger than some files.
"""

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mods_grpc.errors import ArtifactError

INT64 = 2**63
MAX_KEY = 100
MAX_SHOWN = 5

Record = TypeVar("Record")


def write_json(record: Any, what: str) -> bytes:
    """Write a dataclass as canonical JSON: sorted keys, shortest float form, a final newline.

    Raises:
        ArtifactError: A number is not finite; the message begins with `what`.
    """
    try:
        return (json.dumps(record, default=_plain, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()
    except ValueError as error:
        raise ArtifactError(f"{what}: holds a number that is not finite") from error


def read_json(kind: type[Record], text: bytes, what: str) -> Record:
    """Read a dataclass from JSON.

    Raises:
        ArtifactError: Not JSON, a key unknown, absent or repeated, a value of another type, a number not finite; the
            message begins with `what` and says where.
    """
    try:
        tree = json.loads(text.decode(), parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what}: not valid JSON ({error})") from error
    result = _read(kind, tree, what)
    assert isinstance(result, kind)
    return result


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    assert isinstance(value, Mapping)
    return dict(value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _read(expected: Any, tree: Any, where: str) -> Any:
    """Turn a JSON tree into `expected`, a dataclass, tuple, mapping, literal, optional or scalar type."""
    origin = get_origin(expected)
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        _expect(tree, dict, where)
        hints = get_type_hints(expected)
        names = {field.name for field in fields(expected)}
        required = {field.name for field in fields(expected) if field.default is dataclasses.MISSING}
        if not required <= tree.keys() <= names:
            unknown, absent = sorted(tree.keys() - names)[:MAX_SHOWN], sorted(required - tree.keys())
            raise ArtifactError(f"{where}: unknown keys {[key[:MAX_KEY] for key in unknown]}, absent keys {absent}")
        return expected(**{name: _read(hints[name], tree[name], f"{where}.{name}") for name in names & tree.keys()})
    if origin is tuple:
        _expect(tree, list, where)
        item = get_args(expected)[0]
        return tuple(_read(item, value, f"{where}[{index}]") for index, value in enumerate(tree))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        _expect(tree, dict, where)
        item = get_args(expected)[1]
        return types.MappingProxyType({key: _read(item, value, f"{where}.{_key(key, where)}") for key, value in tree.items()})
    if origin is Literal:
        if tree not in get_args(expected):
            raise ArtifactError(f"{where}: expected one of {', '.join(get_args(expected))}")
        return tree
    if origin in (Union, types.UnionType):
        return _read_union(get_args(expected), tree, where)
    if expected is float:
        _expect(tree, (int, float), where)
        try:
            number = float(tree)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ArtifactError(f"{where}: not a finite number")
        return number
    _expect(tree, expected, where)
    if expected is int and not -INT64 <= tree < INT64:
        raise ArtifactError(f"{where}: not a 64-bit number")
    if expected is str and not _is_text(tree):
        raise ArtifactError(f"{where}: expected text, found half a character")
    return tree


def _read_union(members: tuple[Any, ...], tree: Any, where: str) -> Any:
    if tree is None and types.NoneType in members:
        return None
    rest = [member for member in members if member is not types.NoneType]
    if len(rest) == 1:
        return _read(rest[0], tree, where)
    if type(tree) not in rest or (isinstance(tree, float) and not math.isfinite(tree)):
        raise ArtifactError(f"{where}: expected text, a finite number or a truth value")
    return _read(type(tree), tree, where)


def _expect(tree: Any, kind: Any, where: str) -> None:
    # bool is an int to isinstance, but not to a reader of the manifest
    if not isinstance(tree, kind) or (isinstance(tree, bool) and kind is not bool):
        name = kind.__name__ if isinstance(kind, type) else "number"
        raise ArtifactError(f"{where}: expected {name}, found {type(tree).__name__}")


def _key(key: str, where: str) -> str:
    if not (key.isprintable() and len(key) <= MAX_KEY):
        raise ArtifactError(f"{where}: expected keys of at most {MAX_KEY} printable characters")
    return key


def _is_text(text: str) -> bool:
    """Tell whether text can be written as UTF-8: JSON can escape half a surrogate pair, which can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
