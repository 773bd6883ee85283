"""Item records: what an item says of its samples in a few bytes, repeated for free. Specified in FORMAT.md, "Items"."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from compresskit.codec.limits import ITEM_BYTES, MemoryBudget
from compresskit.codec.signal import Scale
from compresskit.codec.stream import DTYPES, MAX_AXES, MAX_WORD, Item, check_layout
from compresskit.codec.varint import Cursor, pack_number, pack_varint
from compresskit.errors import InputError

T = TypeVar("T")

# The order is part of the format: a code is an index. Append only.
_FORMATS = (
    ("image", "png"),
    ("image", "jpeg"),
    ("image", "tiff"),
    ("image", "bmp"),
    ("image", "webp"),
    ("audio", "wav"),
    ("audio", "flac"),
    ("audio", "ogg"),
    ("volume", "nii"),
    ("volume", "nii.gz"),
    ("climate", "nc"),
    ("climate", "npz"),
    ("array", "npy"),
)
_SPELLED_FORMAT = 15

_AXES = {"image": 2, "audio": 1, "volume": 3, "climate": 2, "array": 1}
_OTHER_AXES = 2

_SCALES = {
    "|u1": Scale(0.0, 1.0, 2**8),
    "|i1": Scale(-(2.0**7), 1.0, 2**8),
    "<u2": Scale(0.0, 1.0, 2**16),
    "<i2": Scale(-(2.0**15), 1.0, 2**16),
    "|b1": Scale(0.0, 1.0, 2),
}

# The second byte of a record. Its two lowest bits are channels - 1, or this one where channels are given.
_CHANNELS_GIVEN = 0b11
_FRAMES_GIVEN = 1 << 2
_AXES_GIVEN = 1 << 3
_EQUAL_EDGES = 1 << 4
_SCALE_GIVEN = 1 << 5
_PEAK_GIVEN = 1 << 6
_SPHERE = 1 << 7


@dataclass(frozen=True)
class Run:
    """`count` items in a row that differ in name, metadata and missing samples at most; `layout` has none of these."""

    count: int
    layout: Item


def runs_of(items: Iterable[Item]) -> list[Run]:
    """Items as few runs as possible, in their order."""
    layouts = (replace(item, name="", metadata=b"", missing=b"") for item in items)
    return [Run(sum(1 for _ in group), layout) for layout, group in itertools.groupby(layouts)]


def pack_runs(runs: Sequence[Run]) -> bytes:
    """The number of items, then each run: its length and its record.

    Raises:
        InputError: a layout that no bitstream may hold.
    """
    packed = [pack_varint(sum(run.count for run in runs))]
    for run in runs:
        packed += pack_varint(run.count), pack_layout(run.layout)
    return b"".join(packed)


def read_runs(cursor: Cursor, budget: MemoryBudget) -> list[Run]:
    """The counterpart of `pack_runs`; takes the samples of all items from the budget.

    Raises:
        InputError: damaged, without items, or over the budget.
    """
    left = cursor.varint()
    if left == 0:
        raise InputError("damaged bitstream: no items")
    runs = []
    while left:
        count = cursor.varint()
        if not 1 <= count <= left:
            raise InputError(f"damaged bitstream: a run of {count} items where {left} are left")
        runs.append(Run(count, read_layout(cursor, count, budget)))
        left -= count
    return runs


def pack_layout(item: Item) -> bytes:
    """The record of `item`; its name, metadata and missing samples are kept elsewhere.

    Raises:
        InputError: a layout that no bitstream may hold.
    """
    check_layout(item)
    kind = (item.modality, item.format)
    code = _FORMATS.index(kind) if kind in _FORMATS else _SPELLED_FORMAT
    flags, fields = 0, []
    if code == _SPELLED_FORMAT:
        fields += [_pack_word(item.modality), _pack_word(item.format)]
    frames, *edges, channels = item.shape
    if frames != 1:
        flags |= _FRAMES_GIVEN
        fields.append(pack_varint(frames))
    if len(edges) != _AXES.get(item.modality, _OTHER_AXES):
        flags |= _AXES_GIVEN
        fields.append(pack_varint(len(edges)))
    flags |= min(channels - 1, _CHANNELS_GIVEN)
    if channels > _CHANNELS_GIVEN:
        fields.append(pack_varint(channels))
    if len(edges) > 1 and len(set(edges)) == 1:
        flags |= _EQUAL_EDGES
        edges = edges[:1]
    fields += map(pack_varint, edges)
    if item.scale != _SCALES.get(item.dtype):
        flags |= _SCALE_GIVEN
        fields += [pack_number(item.scale.low), pack_number(item.scale.step), pack_varint(item.scale.levels)]
    if item.peak != _usual_peak(item.scale):
        flags |= _PEAK_GIVEN
        fields.append(pack_number(item.peak))
    flags |= _SPHERE if item.sphere else 0
    return bytes((code << 4 | DTYPES.index(item.dtype), flags)) + b"".join(fields)


def read_layout(cursor: Cursor, count: int, budget: MemoryBudget) -> Item:
    """The counterpart of `pack_layout`, for `count` items alike: takes their samples from the budget.

    Raises:
        InputError: damaged, of a format or dtype that this version does not know, or over the budget.
    """
    kind, flags = cursor.byte(), cursor.byte()
    modality, format_ = _read_format(cursor, kind >> 4)
    dtype = _known(DTYPES, kind & 0xF, "dtype")
    shape = _read_shape(cursor, flags, _AXES.get(modality, _OTHER_AXES))
    scale = Scale(cursor.number(), cursor.number(), cursor.varint()) if flags & _SCALE_GIVEN else _SCALES.get(dtype)
    if scale is None:
        raise InputError(f"damaged bitstream: samples of dtype {dtype} without a scale")
    peak = cursor.number() if flags & _PEAK_GIVEN else _usual_peak(scale)
    item = Item("", modality, format_, dtype, shape, scale, peak, sphere=bool(flags & _SPHERE))
    check_layout(item)
    # The last character of a dtype is the bytes of a sample.
    budget.take(count * (ITEM_BYTES + math.prod(shape) * int(dtype[-1])), f"{count} x {format_} of shape {shape}")
    return item


def _read_format(cursor: Cursor, code: int) -> tuple[str, str]:
    if code == _SPELLED_FORMAT:
        return _read_word(cursor), _read_word(cursor)
    return _known(_FORMATS, code, "file format")


def _read_shape(cursor: Cursor, flags: int, axes: int) -> tuple[int, ...]:
    frames = cursor.varint() if flags & _FRAMES_GIVEN else 1
    axes = cursor.varint() if flags & _AXES_GIVEN else axes
    if axes > MAX_AXES:
        raise InputError(f"damaged bitstream: {axes} axes, where {MAX_AXES} are the most")
    given = flags & _CHANNELS_GIVEN == _CHANNELS_GIVEN
    channels = cursor.varint() if given else (flags & _CHANNELS_GIVEN) + 1
    edges = (cursor.varint(),) * axes if flags & _EQUAL_EDGES else tuple(cursor.varint() for _ in range(axes))
    return frames, *edges, channels


def _usual_peak(scale: Scale) -> float:
    return (scale.levels - 1) * scale.step


def _pack_word(word: str) -> bytes:
    return pack_varint(len(word)) + word.encode("ascii")


def _read_word(cursor: Cursor) -> str:
    length = cursor.varint()
    if length > MAX_WORD:
        raise InputError(f"damaged bitstream: a word of {length} letters, where {MAX_WORD} are the most")
    return cursor.take(length).decode("ascii", "replace")


def _known(table: Sequence[T], code: int, what: str) -> T:
    if code >= len(table):
        raise InputError(f"bitstream with {what} {code}, which this version does not know: a newer compresskit may")
    return table[code]
