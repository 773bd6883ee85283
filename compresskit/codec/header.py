"""The header: what all items share, in two bytes and what these announce. Specified in FORMAT.md, "Header"."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compresskit.codec.stream import BASE_BYTES, GUARDS, MAX_AXES, METHODS, Header
from compresskit.codec.varint import Cursor, pack_number, pack_varint
from compresskit.errors import InputError

# The first byte: a method in its two lowest bits, a guard in the two above them, and these.
_CHOICE_MASK = 0b11
_GUARD_SHIFT = 2
_BASE_NAMED = 1 << 4
_MANY_ITEMS = 1 << 5
_SECTIONED = 1 << 6
_UNKNOWN = 1 << 7

# The second byte: bits of a symbol in its five lowest bits, above them one of these, or 1 + the index of a usual edge.
_BITS_MASK = 0b11111
_PATCH_SHIFT = 5
_WHOLE = 0
_USUAL_EDGES = (8, 12, 16, 24, 32)
_ONE_EDGE = 6
_ALL_EDGES = 7


@dataclass(frozen=True)
class Opening:
    """A header as it was read.

    Attributes:
        header: all but its digest, which has a section, and its patch.
        patch: its edges, or its one edge along all axes of the first item.
        many: whether a number of items and runs of them follow, not a single record.
        sectioned: whether sections follow the items, not the only chunk.
    """

    header: Header
    patch: tuple[int, ...] | int
    many: bool
    sectioned: bool

    def complete(self, axes: int, digest: bytes) -> Header:
        """The whole header, of a bitstream whose first item has so many spatial axes."""
        patch = (self.patch,) * axes if isinstance(self.patch, int) else self.patch
        return replace(self.header, patch=patch, digest=digest)


def pack_header(header: Header, axes: int, *, many: bool, sectioned: bool) -> bytes:
    """The bytes of a valid header, all but its digest; the arguments are those of `Opening`."""
    flags = METHODS.index(header.method) | GUARDS.index(header.guard) << _GUARD_SHIFT
    flags |= (_BASE_NAMED if header.base else 0) | (_MANY_ITEMS if many else 0) | (_SECTIONED if sectioned else 0)
    way, edges = _pack_patch(header.patch, axes)
    tolerance = pack_number(header.tolerance) if header.guard != "none" else b""
    return bytes((flags, header.bits | way << _PATCH_SHIFT)) + header.base + tolerance + edges


def read_header(cursor: Cursor) -> Opening:
    """The counterpart of `pack_header`. Bounds what is read, but does not check the values.

    Raises:
        InputError: cut off, or with a flag, method or guard that this version does not know.
    """
    flags, symbols = cursor.byte(), cursor.byte()
    method, guard = flags & _CHOICE_MASK, flags >> _GUARD_SHIFT & _CHOICE_MASK
    if flags & _UNKNOWN or method >= len(METHODS) or guard >= len(GUARDS):
        raise InputError(f"bitstream with flags {flags:#010b}, some of which this version does not know: a newer compresskit may")
    base = cursor.take(BASE_BYTES) if flags & _BASE_NAMED else b""
    tolerance = cursor.number() if GUARDS[guard] != "none" else 0.0
    patch = _read_patch(cursor, symbols >> _PATCH_SHIFT)
    header = Header(METHODS[method], base, (), symbols & _BITS_MASK, GUARDS[guard], tolerance)
    return Opening(header, patch, bool(flags & _MANY_ITEMS), bool(flags & _SECTIONED))


def _pack_patch(patch: tuple[int, ...], axes: int) -> tuple[int, bytes]:
    if not patch:
        return _WHOLE, b""
    if len(patch) != axes or len(set(patch)) > 1:
        return _ALL_EDGES, b"".join(map(pack_varint, (len(patch), *patch)))
    if patch[0] in _USUAL_EDGES:
        return 1 + _USUAL_EDGES.index(patch[0]), b""
    return _ONE_EDGE, pack_varint(patch[0])


def _read_patch(cursor: Cursor, way: int) -> tuple[int, ...] | int:
    if way == _WHOLE:
        return ()
    if way == _ONE_EDGE:
        return cursor.varint()
    if way == _ALL_EDGES:
        axes = cursor.varint()
        if axes > MAX_AXES:
            raise InputError(f"damaged bitstream: a patch of {axes} axes, where {MAX_AXES} are the most")
        return tuple(cursor.varint() for _ in range(axes))
    return _USUAL_EDGES[way - 1]
