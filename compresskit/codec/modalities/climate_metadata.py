"""What restores a file of gridded data beside the samples of its one grid: names, types, attributes, and every other array.

One JSON text says what there is; the bytes of arrays that are not regular follow it:

    [kind, grid, attributes, unlimited, deflated, [field, ...]]
    field = [name, dtype, dims, shape, attributes, content];  content = 0 for the grid, [start, step, bytes], bytes, or [[text, ...]]
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.modalities.climate_axes import NUMERIC_KINDS, PackedAxis, pack_axis, unpack_axis
from compresskit.codec.modalities.climate_fields import KINDS, Attribute, Contents, Field, array_field
from compresskit.codec.modalities.parts import MAX_METADATA, join_parts, split_parts
from compresskit.codec.varint import Cursor
from compresskit.errors import InputError
from compresskit.wording import first_line, shown

_TEXT_KINDS = "SU"


@dataclass(frozen=True)
class Description:
    """A file without the samples of its grid.

    Attributes:
        contents: whose field `grid` cannot be loaded.
        grid: the name of the field whose samples are coded.
        holes: what stood in the grid's missing samples, as `Samples.holes`.
    """

    contents: Contents
    grid: str
    holes: bytes


def pack_description(description: Description, name: str) -> bytes:
    """As bytes.

    Raises:
        InputError: the arrays beside the grid are too many, or of a type that cannot be kept.
    """
    contents, blobs = description.contents, bytearray()
    others = [field for field in contents.fields if field.name != description.grid]
    if sum(_bytes(field) for field in others) > MAX_METADATA:
        raise InputError(f"{name}: the coordinates beside {description.grid} are over {MAX_METADATA} bytes; leave out those not needed")
    fields = [_pack_field(field, description.grid, blobs, name) for field in contents.fields]
    document = [contents.kind, description.grid, _pack_attributes(contents.attributes), contents.unlimited, contents.deflated, fields]
    return join_parts(description.holes, json.dumps(document, separators=(",", ":")).encode("ascii"), bytes(blobs))


def unpack_description(metadata: bytes) -> Description:
    """The inverse.

    Raises:
        InputError: the metadata is damaged.
    """
    holes, text, blobs = split_parts(metadata, 3)
    try:
        kind, grid, attributes, unlimited, deflated, packed = json.loads(text)
        reader = _Reader(Cursor(blobs))
        fields = tuple(reader.field(entry) for entry in packed)
        contents = Contents(str(kind), fields, _unpack_attributes(attributes), tuple(map(str, unlimited)), tuple(map(str, deflated)))
    except InputError:
        raise
    except Exception as error:  # JSON of any shape arrives here: unpacking it raises nearly everything
        raise InputError(f"damaged metadata of gridded data ({first_line(error)})") from error
    if kind not in KINDS:
        raise InputError(f"damaged metadata: gridded data of unknown kind {shown(str(kind))[:40]}")
    return Description(contents, str(grid), holes)


def _bytes(field: Field) -> int:
    return math.prod(field.shape) * field.dtype.itemsize


def _pack_field(field: Field, grid: str, blobs: bytearray, name: str) -> list[Any]:
    content = 0 if field.name == grid else _pack_values(field, blobs, name)
    return [field.name, field.dtype.str, field.dims, field.shape, _pack_attributes(field.attributes), content]


def _pack_values(field: Field, blobs: bytearray, name: str) -> Any:
    values = field.load()
    if field.dtype.kind == "O":
        return [values.reshape(-1).tolist()]
    if field.dtype.kind in _TEXT_KINDS:
        blobs += values.tobytes()
        return values.nbytes
    if field.dtype.kind not in NUMERIC_KINDS or field.dtype.itemsize > 8:
        raise InputError(f"{name}: {field.name} is of type {field.dtype}, which cannot be kept; leave it out")
    axis = pack_axis(values)
    blobs += axis.differences
    return [axis.start, axis.step, len(axis.differences)]


class _Reader:
    """Unpacks fields in order, with one limit on their arrays together."""

    def __init__(self, blobs: Cursor) -> None:
        self._blobs = blobs
        self._left = MAX_METADATA

    def field(self, entry: list[Any]) -> Field:
        name, type_name, dims, lengths, packed_attributes, content = entry
        dtype, shape = np.dtype(str(type_name)), tuple(map(int, lengths))
        dims, attributes = tuple(map(str, dims)), _unpack_attributes(packed_attributes)
        if min(shape, default=0) < 0 or (dims and len(dims) != len(shape)) or dtype.kind not in f"{NUMERIC_KINDS}{_TEXT_KINDS}O":
            raise InputError(f"damaged metadata: an array of shape {shape} and type {dtype}")
        if content == 0:
            return Field(str(name), dims, shape, dtype, _nothing, attributes)
        self._left -= math.prod(shape) * dtype.itemsize
        if self._left < 0:
            raise InputError(f"damaged metadata: coordinates of over {MAX_METADATA} bytes")
        return array_field(str(name), self._values(content, dtype, shape), dims, attributes)

    def _values(self, content: Any, dtype: np.dtype, shape: tuple[int, ...]) -> NDArray:
        if dtype.kind == "O":
            return np.array([*map(str, content[0]), None], object)[:-1].reshape(shape)
        if dtype.kind in _TEXT_KINDS:
            return np.frombuffer(self._blobs.take(content), dtype).reshape(shape)
        start, step, length = content
        return unpack_axis(PackedAxis(start, step, self._blobs.take(length)), dtype, shape)


def _nothing() -> NDArray:
    raise InputError("damaged metadata: the samples of more than one grid are missing")


def _pack_attributes(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    return {key: {value.dtype.str: value.tolist()} if isinstance(value, np.ndarray) else value for key, value in attributes.items()}


def _unpack_attributes(packed: Mapping[str, Any]) -> dict[str, Attribute]:
    return {key: _unpack_attribute(value) for key, value in packed.items()}


def _unpack_attribute(value: Any) -> Attribute:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return tuple(map(str, value))
    ((type_name, numbers),) = value.items()
    dtype = np.dtype(type_name)
    if dtype.kind not in "iuf":
        raise InputError(f"damaged metadata: an attribute of type {dtype}")
    return np.array(numbers, dtype)
