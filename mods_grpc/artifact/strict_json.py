"""Frozen dataclasses as strict JSON: exactly the declared keys and types, finite numbers only.

Keys with a default may be absent, since they were added after some files had been written.
"""

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import date
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mods_grpc.errors import ArtifactError

INT64_BOUND = 2**63
MAX_KEY_CHARACTERS = 100
MAX_KEYS_SHOWN = 5

Record = TypeVar("Record")


def write_json(record: Any, what: str) -> bytes:
    """Write a dataclass as canonical JSON: sorted keys, shortest float form, a final newline.

    Raises:
        ArtifactError: A number is not finite. The message begins with `what`.
    """
    try:
        return (json.dumps(record, default=to_jsonable, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()
    except ValueError as error:
        raise ArtifactError(f"{what}: holds a number that is not finite") from error


def read_json(kind: type[Record], text: bytes, what: str) -> Record:
    """Read a dataclass from JSON.

    Raises:
        ArtifactError: Not JSON, a key unknown, absent or repeated, a value of another type, or a number
            not finite. The message begins with `what` and says where.
    """
    try:
        tree = json.loads(text.decode(), parse_constant=_reject_constant, object_pairs_hook=_require_unique_keys)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what}: not valid JSON ({error})") from error
    result = _read(kind, tree, what)
    assert isinstance(result, kind)
    return result


def to_jsonable(value: Any, *, convert: Callable[[Any], Any] | None = None, non_finite_as_null: bool = False) -> Any:
    """Convert a value to the dicts, lists and scalars that `json.dumps` takes; also usable as its `default`.

    Dataclasses and mappings become dicts, tuples and numpy arrays lists, dates and times ISO 8601, numpy scalars numbers.

    Args:
        value: Any nesting of these.
        convert: Converts a value of another type, or returns it as it is; the result is converted in turn. Tried first.
        non_finite_as_null: Turn NaN and infinities into None, which is JSON's null.

    Raises:
        TypeError: A value has no JSON form.
    """
    if convert is not None:
        value = convert(value)
    if isinstance(value, float) and non_finite_as_null:
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_jsonable(item, convert=convert, non_finite_as_null=non_finite_as_null) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item, convert=convert, non_finite_as_null=non_finite_as_null) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "tolist"):  # numpy, which the artifact does without
        return to_jsonable(value.tolist(), convert=convert, non_finite_as_null=non_finite_as_null)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _require_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a key occurs twice")
    return tree


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _read(expected: Any, tree: Any, where: str) -> Any:
    """Convert a JSON tree to `expected`: a dataclass, tuple, mapping, literal, union or scalar type."""
    origin = get_origin(expected)
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        _expect(tree, dict, where)
        hints = _type_hints(expected)
        names = {field.name for field in fields(expected)}
        required = {field.name for field in fields(expected) if field.default is dataclasses.MISSING}
        if not required <= tree.keys() <= names:
            unknown, absent = sorted(tree.keys() - names)[:MAX_KEYS_SHOWN], sorted(required - tree.keys())
            raise ArtifactError(f"{where}: unknown keys {[key[:MAX_KEY_CHARACTERS] for key in unknown]}, absent keys {absent}")
        return expected(**{name: _read(hints[name], tree[name], f"{where}.{name}") for name in names & tree.keys()})
    if origin is tuple:
        _expect(tree, list, where)
        item = get_args(expected)[0]
        if item is float and set(map(type, tree)) <= {float} and all(map(math.isfinite, tree)):
            return tuple(tree)  # by far the most of a manifest
        return tuple(_read(item, value, f"{where}[{index}]") for index, value in enumerate(tree))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        _expect(tree, dict, where)
        item = get_args(expected)[1]
        return types.MappingProxyType(
            {key: _read(item, value, f"{where}.{_checked_key(key, where)}") for key, value in tree.items()}
        )
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
    if expected is int and not -INT64_BOUND <= tree < INT64_BOUND:
        raise ArtifactError(f"{where}: not a 64-bit number")
    if expected is str and not _is_utf8(tree):
        raise ArtifactError(f"{where}: expected text, found half a surrogate pair")
    return tree


@cache
def _type_hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read_union(members: tuple[Any, ...], tree: Any, where: str) -> Any:
    if tree is None and types.NoneType in members:
        return None
    rest = [member for member in members if member is not types.NoneType]
    if len(rest) == 1:
        return _read(rest[0], tree, where)
    if type(tree) not in rest or (isinstance(tree, float) and not math.isfinite(tree)):
        raise ArtifactError(f"{where}: expected text, a finite number, true or false")
    return _read(type(tree), tree, where)


def _expect(tree: Any, kind: Any, where: str) -> None:
    # isinstance takes a bool for an int
    if not isinstance(tree, kind) or (isinstance(tree, bool) and kind is not bool):
        name = kind.__name__ if isinstance(kind, type) else "number"
        raise ArtifactError(f"{where}: expected {name}, found {type(tree).__name__}")


def _checked_key(key: str, where: str) -> str:
    if not (key.isprintable() and len(key) <= MAX_KEY_CHARACTERS):
        raise ArtifactError(f"{where}: expected keys of at most {MAX_KEY_CHARACTERS} printable characters")
    return key


def _is_utf8(text: str) -> bool:
    """Return whether text can be written as UTF-8. JSON can escape half a surrogate pair, which can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
