"""The bytes of a `.coinpp` file: one function writes them, one reads them, and FORMAT.md beside this file specifies them.

magic version | header | items | the only chunk, or sections | CRC-32
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compresskit.codec.header import pack_header
from compresskit.codec.items import pack_layout, pack_runs, runs_of
from compresskit.codec.limits import DEFAULT_STREAM_LIMITS, MemoryBudget, StreamLimits
from compresskit.codec.parsing import MAGIC, VERSION, Parsed, checksum, parse
from compresskit.codec.sections import Tag, begun_parts, pack_parts, pack_sections, read_parts, section_name, squeeze, unsqueeze
from compresskit.codec.stream import PROGRESSIVE, VERSIONS, Header, Item, Stream, check_header, check_name
from compresskit.errors import InputError
from compresskit.wording import listed

__all__ = ["MAGIC", "VERSION", "Header", "Item", "Stream", "StreamLimits", "pack", "section_sizes", "unpack"]


def pack(stream: Stream) -> bytes:
    """The file of `stream`.

    Raises:
        InputError: a value that no bitstream may hold.
    """
    if not stream.items:
        raise InputError("bitstream without items: expected one or more")
    if stream.version not in VERSIONS:
        raise InputError(f"bitstream of version {stream.version}: expected {listed(map(str, VERSIONS))}")
    check_header(stream.header, stream.version)
    payloads = _payloads(stream)
    alone = len(stream.chunks) == 1 and not any(payload for tag, payload in payloads.items() if tag != Tag.CHUNKS)
    # A section says how long it is, and so how much of it is there.
    lone = alone and stream.version not in PROGRESSIVE
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
    return body + checksum(body)


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
    parsed = parse(data, budget, partial=partial)
    header = parsed.opening.complete(len(parsed.runs[0].layout.shape) - 2, bytes(parsed.payload(Tag.DIGEST)))
    check_header(header, data[len(MAGIC)])
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
    parsed = parse(data, MemoryBudget(limits), partial=partial)
    chunk = {} if parsed.lone is None else {section_name(Tag.CHUNKS): len(parsed.lone)}
    sections = {section_name(tag): section.size for tag, section in parsed.sections.items()}
    known = {"header": parsed.size, **chunk, **sections}
    return {**known, "checksum": len(data) - sum(known.values())}


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


def _read_chunks(parsed: Parsed, budget: MemoryBudget) -> tuple[tuple[bytes, ...], int | None]:
    """The chunks, and how many are whole; None for all."""
    if parsed.lone is not None:
        return (parsed.lone,), 0 if parsed.cut else None
    if parsed.cut and not parsed.sections[Tag.CHUNKS].whole:
        return begun_parts(parsed.payload(Tag.CHUNKS), budget, "chunks")
    chunks = read_parts(parsed.payload(Tag.CHUNKS), budget, "chunks")
    return chunks, len(chunks) if parsed.cut else None


def _read_residuals(parsed: Parsed, budget: MemoryBudget) -> tuple[bytes, ...]:
    """The residuals that are whole."""
    section = parsed.sections.get(Tag.RESIDUALS)
    if section is None or section.whole:
        return read_parts(parsed.payload(Tag.RESIDUALS), budget, "residuals")
    parts, whole = begun_parts(section.payload, budget, "residuals")
    return parts[:whole]


def _read_items(parsed: Parsed, budget: MemoryBudget) -> tuple[Item, ...]:
    items = tuple(run.layout for run in parsed.runs for _ in range(run.count))
    names, metadata, missing = (_read_per_item(parsed, tag, len(items), budget) for tag in (Tag.NAMES, Tag.METADATA, Tag.MISSING))
    if not (names or metadata or missing):
        return items
    none = (b"",) * len(items)
    told = zip(items, names or none, metadata or none, missing or none, strict=True)
    return tuple(replace(item, name=_read_name(name), metadata=own, missing=mask) for item, name, own, mask in told)


def _pack_per_item(parts: Sequence[bytes]) -> bytes:
    return squeeze(pack_parts(parts)) if any(parts) else b""


def _read_per_item(parsed: Parsed, tag: Tag, count: int, budget: MemoryBudget) -> tuple[bytes, ...]:
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
