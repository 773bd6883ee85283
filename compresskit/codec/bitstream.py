"""The bytes of a `.coinpp` file: one function writes them, one reads them, and FORMAT.md beside this file specifies them.

magic version | header | items | the only chunk, or sections | CRC-32
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compresskit.codec.header import Opening, pack_header, read_header
from compresskit.codec.items import Run, pack_layout, pack_runs, read_layout, read_runs, runs_of
from compresskit.codec.limits import DEFAULT_STREAM_LIMITS, MemoryBudget, StreamLimits
from compresskit.codec.sections import (
    Section,
    Tag,
    begun_parts,
    begun_sections,
    pack_parts,
    pack_sections,
    read_parts,
    read_sections,
    section_name,
    squeeze,
    unsqueeze,
)
from compresskit.codec.stream import PROGRESSIVE, VERSIONS, Header, Item, Stream, check_header, check_name
from compresskit.codec.varint import Cursor, CutOffError
from compresskit.errors import InputError
from compresskit.wording import listed

__all__ = ["MAGIC", "VERSION", "Header", "Item", "Stream", "StreamLimits", "pack", "section_sizes", "unpack"]

MAGIC = b"\xc0\x1e"
"""No text starts like this: 0xC0 is no byte of UTF-8."""

VERSION = VERSIONS[0]
"""Of streams that need no later one."""

_CRC_BYTES = 4


@dataclass(frozen=True)
class _Parsed:
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
        return self.sections[tag].payload if tag in self.sections else memoryview(b"")


def pack(stream: Stream) -> bytes:
    """The file of `stream`.

    Raises:
        InputError: a value that no bitstream may hold.
    """
    if not stream.items:
        raise InputError("bitstream without items: expected one or more")
    if stream.version not in VERSIONS:
        raise InputError(f"bitstream of version {stream.version}: expected {listed(map(str, VERSIONS))}")
    check_header(stream.header)
    payloads = _payloads(stream)
    lone = len(stream.chunks) == 1 and not any(payload for tag, payload in payloads.items() if tag != Tag.CHUNKS)
    lone = lone and stream.version < PROGRESSIVE  # whose length tells how much of it is there
    many = len(stream.items) > 1
    runs = runs_of(stream.items)
    body = b"".join(
        (
            MAGIC,
            bytes((stream.version,)),
            pack_header(stream.header, len(stream.items[0].shape) - 2, many=many, sectioned=not lone),
            pack_runs(runs) if many else pack_layout(runs[0].layout),
            stream.chunks[0] if lone else pack_sections(payloads),
        )
    )
    return body + _checksum(body)


def unpack(data: bytes, limits: StreamLimits = DEFAULT_STREAM_LIMITS, *, partial: bool = False) -> Stream:
    """The counterpart of `pack`, for bytes from anywhere.

    Args:
        data: the file.
        limits: of what it may unpack to.
        partial: whether a file will do that was cut off behind where its chunks begin.

    Raises:
        InputError: no bitstream, of another version, damaged, self-contradictory or over `limits`.
    """
    budget = MemoryBudget(limits)
    parsed = _parse(data, budget, partial=partial)
    header = parsed.opening.complete(len(parsed.runs[0].layout.shape) - 2, bytes(parsed.payload(Tag.DIGEST)))
    check_header(header)
    chunks, whole = _read_chunks(parsed, budget)
    return Stream(
        header,
        _read_items(parsed, budget),
        chunks,
        _read_residuals(parsed, budget),
        bytes(parsed.payload(Tag.TABLES)),
        bytes(parsed.payload(Tag.BASE)),
        data[len(MAGIC)],
        whole,
    )


def section_sizes(data: bytes, limits: StreamLimits = DEFAULT_STREAM_LIMITS, *, partial: bool = False) -> dict[str, int]:
    """Bytes by part of the file, in its order: "header", each section by its name, "checksum". They sum to all of `data`.

    Raises:
        InputError: as in `unpack`, for all but the payloads.
    """
    parsed = _parse(data, MemoryBudget(limits), partial=partial)
    chunk = {} if parsed.lone is None else {section_name(Tag.CHUNKS): len(parsed.lone)}
    sections = {section_name(tag): section.size for tag, section in parsed.sections.items()}
    known = {"header": parsed.size, **chunk, **sections}
    return {**known, "checksum": len(data) - sum(known.values())}


def _parse(data: bytes, budget: MemoryBudget, *, partial: bool = False) -> _Parsed:
    if not data.startswith(MAGIC):
        raise InputError("not a compresskit bitstream: it does not start like one")
    version = data[len(MAGIC)] if len(data) > len(MAGIC) else VERSION
    if version not in VERSIONS:
        raise InputError(f"bitstream of version {version}, and this compresskit reads versions {listed(map(str, VERSIONS))}: a newer one may read it")
    body = memoryview(data)[:-_CRC_BYTES]
    # The checksum is verified first: no later error is mere damage.
    if len(body) > len(MAGIC) and _checksum(body) == data[-_CRC_BYTES:]:
        return _parse_whole(body, budget)
    if not partial:
        raise InputError(
            "damaged bitstream: its checksum does not match, so it was cut off or altered; get a fresh copy, or decode what is there with --partial"
        )
    return _parse_begun(data, budget)


def _parse_whole(body: memoryview, budget: MemoryBudget) -> _Parsed:
    """Take apart all but the checksum."""
    cursor = Cursor(body)
    opening, runs = _read_start(cursor, budget)
    size = cursor.offset
    if opening.sectioned:
        return _Parsed(opening, runs, size, None, read_sections(cursor))
    return _Parsed(opening, runs, size, cursor.take(cursor.remaining), {})


def _parse_begun(data: bytes, budget: MemoryBudget) -> _Parsed:
    """Take apart what there is of a file that was cut off."""
    cursor = Cursor(data)
    try:
        opening, runs = _read_start(cursor, budget)
    except CutOffError:
        raise InputError(f"bitstream that was cut off after {len(data)} bytes, before it says what it holds: get more of it") from None
    size = cursor.offset
    if not opening.sectioned:
        # Nothing tells where the chunk ends: all but one of the checksum's bytes may be there.
        return _Parsed(opening, runs, size, cursor.take(max(cursor.remaining - _CRC_BYTES + 1, 0)), {}, cut=True)
    guarded = opening.header.guard != "none" and opening.header.method != "plain"
    sections = begun_sections(cursor, (Tag.CHUNKS, Tag.RESIDUALS) if guarded else (Tag.CHUNKS,), _CRC_BYTES)
    if cursor.remaining == _CRC_BYTES:
        raise InputError("damaged bitstream: all of it is there, but its checksum does not match, so it was altered; get a fresh copy")
    if Tag.CHUNKS not in sections:
        there = listed([section_name(tag) for tag, section in sections.items() if section.whole], len(Tag)) or "none"
        raise InputError(f"bitstream that was cut off after {len(data)} bytes, before its chunks begin (of its sections, {there}): get more of it")
    return _Parsed(opening, runs, size, None, sections, cut=True)


def _read_start(cursor: Cursor, budget: MemoryBudget) -> tuple[Opening, list[Run]]:
    """Header and items."""
    cursor.take(len(MAGIC))
    version, opening = cursor.byte(), read_header(cursor)
    if version >= PROGRESSIVE and not opening.sectioned:
        raise InputError(f"damaged bitstream: version {version} without sections")
    return opening, read_runs(cursor, budget) if opening.many else [Run(1, read_layout(cursor, 1, budget))]


def _checksum(data: bytes | memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(_CRC_BYTES, "little")


def _payloads(stream: Stream) -> dict[Tag, bytes]:
    return {
        Tag.DIGEST: stream.header.digest,
        Tag.NAMES: _pack_per_item([_pack_name(item.name) for item in stream.items]),
        Tag.METADATA: _pack_per_item([item.metadata for item in stream.items]),
        Tag.MISSING: _pack_per_item([item.missing for item in stream.items]),
        Tag.TABLES: stream.tables,
        Tag.BASE: stream.base_file,
        Tag.CHUNKS: pack_parts(stream.chunks),
        Tag.RESIDUALS: pack_parts(stream.residuals),
    }


def _read_chunks(parsed: _Parsed, budget: MemoryBudget) -> tuple[tuple[bytes, ...], int | None]:
    """The chunks, and how many are whole; None for all."""
    if parsed.lone is not None:
        return (parsed.lone,), 0 if parsed.cut else None
    if parsed.cut and not parsed.sections[Tag.CHUNKS].whole:
        return begun_parts(parsed.payload(Tag.CHUNKS), budget, "chunks")
    chunks = read_parts(parsed.payload(Tag.CHUNKS), budget, "chunks")
    return chunks, len(chunks) if parsed.cut else None


def _read_residuals(parsed: _Parsed, budget: MemoryBudget) -> tuple[bytes, ...]:
    """The residuals that are whole."""
    section = parsed.sections.get(Tag.RESIDUALS)
    if section is None or section.whole:
        return read_parts(parsed.payload(Tag.RESIDUALS), budget, "residuals")
    parts, whole = begun_parts(section.payload, budget, "residuals")
    return parts[:whole]


def _read_items(parsed: _Parsed, budget: MemoryBudget) -> tuple[Item, ...]:
    items = tuple(run.layout for run in parsed.runs for _ in range(run.count))
    names, metadata, missing = (_read_per_item(parsed, tag, len(items), budget) for tag in (Tag.NAMES, Tag.METADATA, Tag.MISSING))
    if not (names or metadata or missing):
        return items
    none = (b"",) * len(items)
    told = zip(items, names or none, metadata or none, missing or none, strict=True)
    return tuple(replace(item, name=_read_name(name), metadata=own, missing=mask) for item, name, own, mask in told)


def _pack_per_item(parts: Sequence[bytes]) -> bytes:
    return squeeze(pack_parts(parts)) if any(parts) else b""


def _read_per_item(parsed: _Parsed, tag: Tag, count: int, budget: MemoryBudget) -> tuple[bytes, ...]:
    what = section_name(tag)
    parts = read_parts(unsqueeze(parsed.payload(tag), budget, what), budget, what)
    if len(parts) not in (0, count):
        raise InputError(f"damaged bitstream: {what} of {len(parts)} items where there are {count}")
    return parts


def _pack_name(name: str) -> bytes:
    check_name(name)
    try:
        # A file name that is not UTF-8 has its odd bytes as surrogates in Python.
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InputError(f"bitstream with name {name[:64]!r}: expected Unicode") from error


def _read_name(packed: bytes) -> str:
    name = packed.decode("utf-8", "surrogateescape")
    check_name(name)
    return name
