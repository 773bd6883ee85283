"""The parts of a `.coinpp` file: told apart where it is whole, and where it was cut off as far as they go."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from compresskit.codec.header import Opening, read_header
from compresskit.codec.items import Run, read_layout, read_runs
from compresskit.codec.limits import MemoryBudget
from compresskit.codec.sections import Section, Tag, begun_sections, read_sections, section_name
from compresskit.codec.stream import PROGRESSIVE, VERSIONS
from compresskit.codec.varint import Cursor, CutOffError
from compresskit.errors import InputError
from compresskit.wording import listed

MAGIC = b"\xc0\x1e"
"""No text starts like this: 0xC0 is no byte of UTF-8."""

VERSION = VERSIONS[0]
"""Of streams that need no later one."""

CRC_BYTES = 4


@dataclass(frozen=True)
class Parsed:
    """A bitstream taken apart, its payloads still packed.

    Attributes:
        opening: the header.
        runs: of all items.
        size: bytes before the only chunk, or before the sections.
        lone: the only chunk, or None in a bitstream with sections.
        sections: by tag.
        cut: whether it was cut off: the chunk, or a section, may be a beginning then.
    """

    opening: Opening
    runs: list[Run]
    size: int
    lone: bytes | None
    sections: dict[int, Section]
    cut: bool = False

    def payload(self, tag: Tag) -> memoryview:
        """What a section holds; nothing where there is none."""
        return self.sections[tag].payload if tag in self.sections else memoryview(b"")


def parse(data: bytes, budget: MemoryBudget, *, partial: bool = False) -> Parsed:
    """Take a file apart; `partial` is that of `bitstream.unpack`.

    Raises:
        InputError: no bitstream, of another version, damaged or over the budget.
    """
    if not data.startswith(MAGIC):
        raise InputError("not a compresskit bitstream: it does not start like one")
    version = data[len(MAGIC)] if len(data) > len(MAGIC) else VERSION
    if version not in VERSIONS:
        raise InputError(f"bitstream of version {version}, and this compresskit reads versions {listed(map(str, VERSIONS))}: a newer one may read it")
    body = memoryview(data)[:-CRC_BYTES]
    # The checksum is verified first: no later error is mere damage.
    if len(body) > len(MAGIC) and checksum(body) == data[-CRC_BYTES:]:
        return _parse_whole(body, budget)
    if not partial:
        raise InputError(
            "damaged bitstream: its checksum does not match, so it was cut off or altered; get a fresh copy, or decode what is there with --partial"
        )
    return _parse_begun(data, budget)


def _parse_whole(body: memoryview, budget: MemoryBudget) -> Parsed:
    """Take apart all but the checksum."""
    cursor = Cursor(body)
    opening, runs = _read_start(cursor, budget)
    size = cursor.offset
    if opening.sectioned:
        return Parsed(opening, runs, size, None, read_sections(cursor))
    return Parsed(opening, runs, size, cursor.take(cursor.remaining), {})


def _parse_begun(data: bytes, budget: MemoryBudget) -> Parsed:
    """Take apart what there is of a file that was cut off."""
    cursor = Cursor(data)
    try:
        opening, runs = _read_start(cursor, budget)
    except CutOffError:
        raise InputError(f"bitstream that was cut off after {len(data)} bytes, before it says what it holds: get more of it") from None
    size = cursor.offset
    if not opening.sectioned:
        # Nothing tells where the chunk ends: all but one of the checksum's bytes may be there.
        return Parsed(opening, runs, size, cursor.take(max(cursor.remaining - CRC_BYTES + 1, 0)), {}, cut=True)
    guarded = opening.header.guard != "none" and opening.header.method != "plain"
    sections = begun_sections(cursor, (Tag.CHUNKS, Tag.RESIDUALS) if guarded else (Tag.CHUNKS,), CRC_BYTES)
    if cursor.remaining == CRC_BYTES:
        raise InputError("damaged bitstream: all of it is there, but its checksum does not match, so it was altered; get a fresh copy")
    if Tag.CHUNKS not in sections:
        there = listed([section_name(tag) for tag, section in sections.items() if section.whole], len(Tag)) or "none"
        raise InputError(f"bitstream that was cut off after {len(data)} bytes, before its chunks begin (of its sections, {there}): get more of it")
    return Parsed(opening, runs, size, None, sections, cut=True)


def _read_start(cursor: Cursor, budget: MemoryBudget) -> tuple[Opening, list[Run]]:
    """Header and items."""
    cursor.take(len(MAGIC))
    version, opening = cursor.byte(), read_header(cursor)
    if version in PROGRESSIVE and not opening.sectioned:
        raise InputError(f"damaged bitstream: version {version} without sections")
    return opening, read_runs(cursor, budget) if opening.many else [Run(1, read_layout(cursor, 1, budget))]


def checksum(data: bytes | memoryview) -> bytes:
    """What follows `data` in a file."""
    return zlib.crc32(data).to_bytes(CRC_BYTES, "little")
