"""Frozen dataclasses as JSON, and back without loss: a schema version, no field unknown or missing, every type as declared."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from compresskit.errors import InputError

SCHEMA_VERSION = 1  # of the first release: until then, fields may come and go

T = TypeVar("T")
R = TypeVar("R", bound="JsonReport")


class JsonReport:
    """Base of every report: a frozen dataclass of JSON values, tuples, mappings and further dataclasses."""

    def to_json(self) -> str:
        """One JSON object, `schema_version` first, ending in a newline.

        Raises:
            ValueError: a figure is not finite.
        """
        body = {"schema_version": SCHEMA_VERSION, **self._body()}
        return json.dumps(body, indent=2, allow_nan=False) + "\n"

    def _body(self) -> dict[str, Any]:
        """All fields, in the order in which JSON has them."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls: type[R], text: str) -> R:
        """Read what `to_json` wrote.

        Raises:
            InputError: not JSON, another schema version, or a field that is missing, unknown or of the wrong type.
        """
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not a report: {error}") from error
        if not isinstance(body, dict):
            raise InputError(f"not a report: expected a JSON object, found {type(body).__name__}")
        version = body.pop("schema_version", None)
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise InputError(f"report schema version {version!r} is unknown: this release reads version {SCHEMA_VERSION}")
        return _decode(cls, body, "report")


def _decode(kind: Any, value: Any, where: str) -> Any:
    """Turn parsed JSON into `kind` (a dataclass, tuple, mapping, union or scalar type), or say at `where` it does not fit."""
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _decode_dataclass(kind, value, where)
    if origin in (types.UnionType, typing.Union):
        inner, _ = typing.get_args(kind)  # only `X | None` occurs
        return None if value is None else _decode(inner, value, where)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        return tuple(_decode(item, entry, f"{where}[{index}]") for index, entry in enumerate(_expect(list, value, where)))
    if origin is dict:
        item = typing.get_args(kind)[1]
        return {key: _decode(item, entry, f"{where}.{key}") for key, entry in _expect(dict, value, where).items()}
    return float(_expect((int, float), value, where)) if kind is float else _expect(kind, value, where)


def _decode_dataclass(kind: type[T], value: Any, where: str) -> T:
    entries: Mapping[str, Any] = _expect(dict, value, where)
    hints = typing.get_type_hints(kind)
    for name in entries:
        if name not in hints:
            raise InputError(f"{where}: unknown field {name!r}")
    for name in hints:
        if name not in entries:
            raise InputError(f"{where}: field {name!r} is missing")
    return kind(**{name: _decode(hint, entries[name], f"{where}.{name}") for name, hint in hints.items()})


def _expect(kind: type | tuple[type, ...], value: Any, where: str) -> Any:
    # A bool is an int to Python, but not in a report.
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        wanted = kind.__name__ if isinstance(kind, type) else "number"
        raise InputError(f"{where}: expected {wanted}, found {type(value).__name__}")
    return value
