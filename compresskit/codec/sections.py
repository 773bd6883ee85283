"""The tagged sections behind a header, and the two shapes that their payloads have. Specified in FORMAT.md, "Sections"."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from compresskit.codec.limits import PART_BYTES, MemoryBudget
from compresskit.codec.varint import Cursor, CutOffError, pack_varint
from compresskit.errors import InputError

_OPTIONAL = 0x80
_RAW_DEFLATE = -zlib.MAX_WBITS


class Tag(IntEnum):
    """Sections of this version. Those from 0x80 on are optional: a reader skips the ones that it does not know."""

    DIGEST = 1
    NAMES = 2
    METADATA = 3
    MISSING = 4
    TABLES = 5
    BASE = 6
    CHUNKS = 7
    RESIDUALS = 8


_KNOWN = frozenset(Tag)


@dataclass(frozen=True)
class Section:
    """One section: its payload, the bytes that it takes with tag and length, and whether it is whole: else it was cut off."""

    payload: memoryview
    size: int
    whole: bool = True


def section_name(tag: int) -> str:
    """How people call a section: "chunks", or "section 200" where this version does not know it."""
    return Tag(tag).name.lower() if tag in _KNOWN else f"section {tag}"


def pack_sections(payloads: Mapping[Tag, bytes]) -> bytes:
    """Tag, length and payload of each section that is not empty, by rising tag."""
    pieces = ((bytes((tag,)), pack_varint(len(payload)), payload) for tag, payload in sorted(payloads.items()) if payload)
    return b"".join(itertools.chain.from_iterable(pieces))


def read_sections(cursor: Cursor) -> dict[int, Section]:
    """All sections up to the end of `cursor` by tag, optional ones that this version does not know included. Copies nothing.

    Raises:
        InputError: cut off, out of order, repeated, or not optional and unknown.
    """
    sections: dict[int, Section] = {}
    while cursor.remaining:
        start, tag = cursor.offset, _read_tag(cursor, max(sections, default=0))
        sections[tag] = Section(cursor.view(cursor.varint()), cursor.offset - start)
    return sections


def begun_sections(cursor: Cursor, needed: Collection[Tag], behind: int) -> dict[int, Section]:
    """Likewise of a bitstream that was cut off, as far as it goes: the last section may be a beginning.

    Args:
        cursor: up to where the bitstream ends.
        needed: sections that it must have had.
        behind: bytes that follow the last section; those are left.

    Raises:
        InputError: sections are out of order, repeated, or not optional and unknown.
    """
    sections: dict[int, Section] = {}
    while cursor.remaining and not (cursor.remaining <= behind and all(tag in sections for tag in needed)):
        start, tag = cursor.offset, _read_tag(cursor, max(sections, default=0))
        try:
            sections[tag] = Section(cursor.view(cursor.varint()), cursor.offset - start)
        except CutOffError:
            sections[tag] = Section(cursor.view(cursor.remaining), cursor.offset - start, whole=False)
    return sections


def _read_tag(cursor: Cursor, last: int) -> int:
    tag = cursor.byte()
    if tag <= last:
        raise InputError(f"damaged bitstream: section {tag} behind section {last}")
    if tag < _OPTIONAL and tag not in _KNOWN:
        raise InputError(f"bitstream with section {tag}, which this version does not know and cannot skip: a newer compresskit may")
    return tag


def pack_parts(parts: Sequence[bytes]) -> bytes:
    """A table of contents, then the parts: their number, the length of each, and all of them end to end. No parts are no bytes."""
    if not parts:
        return b""
    return b"".join([pack_varint(len(parts)), *(pack_varint(len(part)) for part in parts), *parts])


def read_parts(packed: bytes | memoryview, budget: MemoryBudget, what: str) -> tuple[bytes, ...]:
    """The counterpart of `pack_parts`.

    Raises:
        InputError: the table of contents and the parts disagree, or there are too many parts for the budget.
    """
    if not packed:
        return ()
    cursor = Cursor(packed)
    count = cursor.varint()
    if not 1 <= count <= cursor.remaining:
        raise InputError(f"damaged bitstream: {count} {what} declared in {cursor.remaining} bytes")
    budget.take(count * PART_BYTES, f"{count} {what}")
    lengths = [cursor.varint() for _ in range(count)]
    if sum(lengths) != cursor.remaining:
        raise InputError(f"damaged bitstream: {what} of {sum(lengths)} bytes declared where {cursor.remaining} are left")
    return tuple(cursor.take(length) for length in lengths)


def begun_parts(packed: bytes | memoryview, budget: MemoryBudget, what: str) -> tuple[tuple[bytes, ...], int]:
    """Likewise of parts that were cut off, as far as they go: the last one may be a beginning. And how many are whole.

    Raises:
        InputError: there are too many parts for the budget.
    """
    cursor = Cursor(packed)
    try:
        count = cursor.varint()
        budget.take(count * PART_BYTES, f"{count} {what}")
        lengths = [cursor.varint() for _ in range(count)]
    except CutOffError:
        return (), 0
    whole = sum(end <= cursor.remaining for end in itertools.accumulate(lengths))
    return tuple(cursor.take(min(length, cursor.remaining)) for length in lengths[: whole + 1]), whole


def squeeze(data: bytes) -> bytes:
    """The length of `data`, then the data: deflated where that is smaller."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, _RAW_DEFLATE)
    deflated = deflater.compress(data) + deflater.flush()
    return pack_varint(len(data)) + min(data, deflated, key=len)


def unsqueeze(packed: bytes | memoryview, budget: MemoryBudget, what: str) -> bytes:
    """The counterpart of `squeeze`; b"" for no bytes at all. Inflates no further than the declared length, which must fit the budget.

    Raises:
        InputError: the data do not inflate to their declared length, or that is over the budget.
    """
    if not packed:
        return b""
    cursor = Cursor(packed)
    length = cursor.varint()
    # Once for the data, once for the parts that they are cut into.
    budget.take(2 * length, what)
    rest = cursor.view(cursor.remaining)
    if len(rest) == length:
        return bytes(rest)
    inflater = zlib.decompressobj(_RAW_DEFLATE)
    try:
        # One byte more than declared, to see data that do not end there.
        data = inflater.decompress(rest, length + 1)
    except zlib.error as error:
        raise InputError(f"damaged bitstream: {what} do not inflate ({error})") from error
    if len(data) != length or not inflater.eof or inflater.unused_data:
        raise InputError(f"damaged bitstream: {what} do not inflate to the {length} bytes declared")
    return data
