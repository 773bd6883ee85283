"""Bitstreams whose checksum is right and whose contents are not: each is refused in one line, or is a stream within its limits."""

from __future__ import annotations

import math
import random
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest

from compresskit.codec.bitstream import MAGIC, VERSION, Header, Item, Stream, StreamLimits, pack, section_sizes, unpack
from compresskit.codec.sections import Tag, pack_parts, pack_sections, squeeze
from compresskit.codec.signal import Scale
from compresskit.codec.varint import MAX_VARINT, pack_varint
from compresskit.errors import InputError

LIMITS = StreamLimits(max_bytes=16 * 2**20)
MUTANTS = 10_000

PICTURE = Item("", "image", "png", "|u1", (1, 32, 32, 3), Scale(0.0, 1.0, 256), 255.0)
GRID = Item("t2m.nc", "climate", "nc", "<f4", (24, 46, 90, 1), Scale(233.1, 0.0011, 65536), 83.5, b"CDF" * 50, b"mask", True)
SMALL = Stream(Header("coin++", b"abcd", (16, 16), 5), (PICTURE,), (b"xyz",))
ARCHIVE = replace(SMALL, items=tuple(replace(PICTURE, name=f"{number}.png") for number in range(40)), chunks=(bytes(100),) * 10)
GUARDED = Stream(
    Header("coin", b"", (3, 5), 16, "max-error", 0.25, bytes(range(32))),
    (GRID, replace(GRID, name="sst.nc"), replace(PICTURE, format="gif", shape=(2, 5, 5, 5, 4))),
    (b"", b"chunk", bytes(300)),
    (b"r1", b"", b"r3"),
    b"tables",
    b"base",
)
SEEDS = [pack(stream) for stream in (SMALL, ARCHIVE, GUARDED)]
START = MAGIC + bytes((VERSION,))
COUNTS = [pack_varint(value) for value in (0, 127, 128, 2**16, 2**31, 2**32, MAX_VARINT)]
MANY = b"\x30\x65abcd"
SECTIONED = b"\x50\x65abcd\x00\x12\x20"
RECORD = b"\x00\x12\x20"


def seal(body: bytes) -> bytes:
    """`body` with the checksum that makes it look whole."""
    return body + zlib.crc32(body).to_bytes(4, "little")


def mutate(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """A sealed stream like `data` with one to four changes: bytes drawn, flipped, cut out or cut off, huge counts, pieces of `other`."""
    body = bytearray(data[:-4])
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(START), len(body) + 1)
        stop = min(len(body), start + draw.randint(0, 8))
        donor = draw.randrange(len(other))
        change = draw.choice(("draw", "flip", "count", "cut", "cut off", "splice"))
        if change == "cut off" and draw.random() < 0.2:
            stop = len(body)
        body[start:stop] = {
            "draw": draw.randbytes(stop - start),
            "flip": bytes(byte ^ 1 << draw.randrange(8) for byte in body[start:stop]),
            "count": draw.choice(COUNTS),
            "splice": other[donor : donor + draw.randint(1, 40)],
        }.get(change, b"")
    return seal(bytes(body))


def within(stream: Stream, limits: StreamLimits) -> bool:
    samples = sum(math.prod(item.shape) * np.dtype(item.dtype).itemsize for item in stream.items)
    return samples + sum(len(item.metadata) + len(item.missing) + len(item.name) for item in stream.items) <= limits.max_bytes


def test_mutants_are_refused_or_within_their_limits() -> None:
    draw = random.Random(0)
    refusals = []
    tracemalloc.start()
    try:
        for _ in range(MUTANTS):
            mutant = mutate(draw.choice(SEEDS), draw.choice(SEEDS), draw)
            try:
                stream = unpack(mutant, LIMITS)
            except InputError as error:
                refusals.append(str(error))
                continue
            assert within(stream, LIMITS)
            assert unpack(pack(stream), LIMITS) == stream
            assert sum(section_sizes(mutant).values()) == len(mutant)
        assert tracemalloc.get_traced_memory()[1] < 2 * LIMITS.max_bytes
    finally:
        tracemalloc.stop()
    assert MUTANTS // 4 < len(refusals) < MUTANTS  # both ways out are taken
    assert all("bitstream" in message and message.isprintable() and len(message) < 300 for message in refusals)


def sections(**payloads: bytes) -> bytes:
    return SECTIONED + pack_sections({Tag[name.upper()]: payload for name, payload in payloads.items()})


HUGE = pack_varint(MAX_VARINT)
DEFLATED = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB = DEFLATED.compress(bytes(2**26)) + DEFLATED.flush()
BOMBS: dict[str, tuple[bytes, str]] = {
    "items of one run": (MANY + HUGE + HUGE + RECORD, "--max-memory"),
    "items of many runs": (MANY + HUGE + (b"\x01" + RECORD) * 10_000, "--max-memory"),
    "more items than there is memory": (MANY + pack_varint(2**20) * 2 + b"\x00\x10\x01", "--max-memory"),
    "an edge": (b"\x10\x65abcd\x00\x12" + HUGE, "--max-memory"),
    "edges": (b"\x10\x65abcd\x00\x02" + HUGE * 2, "--max-memory"),
    "frames": (b"\x10\x65abcd\x00\x16" + HUGE + b"\x20", "--max-memory"),
    "channels": (b"\x10\x65abcd\x00\x13" + HUGE + b"\x20", "--max-memory"),
    "axes": (b"\x10\x65abcd\x00\x1a" + HUGE + b"\x20", "axes, where 8 are the most"),
    "axes of a patch": (b"\x10\xe5abcd" + HUGE + RECORD, "axes, where 8 are the most"),
    "levels": (b"\x10\x65abcd\x00\x32\x20\x02\x04" + HUGE, "levels: expected 1 to 65536"),
    "a format's name": (b"\x10\x65abcd\xf0\x12" + HUGE, "a word of 9223372036854775807 letters"),
    "a section": (SECTIONED + b"\x07" + HUGE, "declared where 0 are left"),
    "chunks": (sections(chunks=HUGE + b"x"), "chunks declared in 1 bytes"),
    "empty chunks": (sections(chunks=pack_varint(100_000) + bytes(100_000)), "--max-memory"),
    "a chunk": (sections(chunks=b"\x01" + HUGE), "chunks of 9223372036854775807 bytes declared"),
    "residuals": (sections(residuals=HUGE + b"x"), "residuals declared in 1 bytes"),
    "inflated metadata, declared": (sections(metadata=pack_varint(2**26) + BOMB), "--max-memory"),
    "inflated metadata, not declared": (sections(metadata=b"\x64" + BOMB), "do not inflate to the 100 bytes"),
    "inflated names": (sections(names=HUGE + BOMB), "--max-memory"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_allocated(name: str) -> None:
    body, reason = BOMBS[name]
    data = seal(START + body)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=reason):
            unpack(data, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < LIMITS.max_bytes
    finally:
        tracemalloc.stop()


CHUNKS = pack_sections({Tag.CHUNKS: pack_parts((b"xyz",))})
TABLES = pack_sections({Tag.TABLES: b"t"})
CONTRADICTIONS: dict[str, tuple[bytes, str]] = {
    "no header": (b"", "declared where 0 are left"),
    "an unknown flag": (b"\x90\x65abcd" + RECORD, "flags 0b10010000, some of which this version does not know"),
    "an unknown method": (b"\x13\x65abcd" + RECORD, "does not know"),
    "an unknown guard": (b"\x1c\x65abcd" + RECORD, "does not know"),
    "too many bits": (b"\x10\x1fabcd" + RECORD, "symbols of 31 bits"),
    "a patch of no edge": (b"\x10\xc5abcd\x00" + RECORD, "edges, of 1 and more"),
    "a negative tolerance": (b"\x14\x65abcd\x03" + RECORD, "tolerance -1.0"),
    "an unknown format": (b"\x10\x65abcd\xd0\x12\x20", "file format 13, which this version does not know"),
    "an unknown dtype": (b"\x10\x65abcd\x0f\x12\x20", "dtype 15, which this version does not know"),
    "floats without a scale": (b"\x10\x65abcd\x09\x12\x20", "without a scale"),
    "a format of control characters": (b"\x10\x65abcd\xf0\x12\x01\x1b\x01a\x20", "a modality or format"),
    "a format that is not ASCII": (b"\x10\x65abcd\xf0\x12\x01a\x01\xff\x20", "a modality or format"),
    "an empty item": (b"\x10\x65abcd\x00\x12\x00", "none of them 0"),
    "no axes": (b"\x10\x65abcd\x00\x0a\x00", "1 to 8 axes"),
    "a step of 0": (b"\x10\x65abcd\x00\x32\x20\x02\x02\x01", "step 0.0"),
    "no items": (MANY + b"\x00", "no items"),
    "an empty run": (MANY + b"\x02\x00" + RECORD, "a run of 0 items"),
    "a run over the end": (MANY + b"\x02\x03" + RECORD, "a run of 3 items where 2 are left"),
    "a section twice": (SECTIONED + CHUNKS + CHUNKS, "section 7 behind section 7"),
    "sections out of order": (SECTIONED + CHUNKS + TABLES, "section 5 behind section 7"),
    "section 0": (SECTIONED + b"\x00\x00", "section 0"),
    "an unknown section": (SECTIONED + b"\x7f\x01x", "section 127, which this version does not know and cannot skip"),
    "a byte behind the sections": (SECTIONED + CHUNKS + b"\x00", "section 0 behind section 7"),
    "a digest of 31 bytes": (sections(digest=bytes(31)), "digest of 31 bytes"),
    "a chunk too short": (sections(chunks=b"\x01\x04xyz"), "chunks of 4 bytes declared where 3 are left"),
    "a chunk too long": (sections(chunks=b"\x01\x02xyz"), "chunks of 2 bytes declared where 3 are left"),
    "chunks of none": (sections(chunks=b"\x00"), "0 chunks"),
    "two names for one item": (sections(names=squeeze(pack_parts((b"a", b"b")))), "names of 2 items where there are 1"),
    "a name that leaves its folder": (sections(names=squeeze(pack_parts((b"../../x",)))), "without a folder"),
    "a name without an end": (sections(names=squeeze(pack_parts((b"/" * 9_999,)))), "bitstream with name '/{64}': "),
    "a name cut off by zlib": (sections(names=squeeze(pack_parts((b"a" * 99,)))[:-1]), "do not inflate"),
    "names that are not deflated": (sections(names=b"\x63\xff\xff\xff"), "do not inflate"),
    "names with bytes behind them": (sections(names=squeeze(pack_parts((b"a" * 99,))) + b"x"), "do not inflate to the 101 bytes"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_and_unknown_parts_are_refused_by_name(name: str) -> None:
    body, reason = CONTRADICTIONS[name]
    with pytest.raises(InputError, match=reason):
        unpack(seal(START + body))


def test_sections_that_may_be_skipped_are() -> None:
    data = seal(START + SECTIONED + CHUNKS + b"\x80\x03new\xff\x00")
    assert unpack(data) == SMALL
    assert section_sizes(data) == {"header": 12, "chunks": len(CHUNKS), "section 128": 5, "section 255": 2, "checksum": 4}


@pytest.mark.parametrize("donor", Tag)
def test_a_section_of_another_stream_fits_or_is_refused(donor: Tag) -> None:
    other = pack_parts((b"from", b"elsewhere"))
    payload = squeeze(other) if donor in (Tag.NAMES, Tag.METADATA, Tag.MISSING) else other
    data = seal(START + SECTIONED + pack_sections({donor: payload}))
    if donor in (Tag.DIGEST, Tag.NAMES, Tag.METADATA, Tag.MISSING):
        with pytest.raises(InputError, match=r"bitstream with a digest|where there are 1"):
            unpack(data)
    else:
        stream = unpack(data)
        kept = {Tag.TABLES: stream.tables, Tag.BASE: stream.base_file, Tag.CHUNKS: stream.chunks, Tag.RESIDUALS: stream.residuals}
        assert kept[donor] in (other, (b"from", b"elsewhere"))
