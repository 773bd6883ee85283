"""The bitstream: what is packed comes back, in the bytes that FORMAT.md promises, and at the cost that it promises."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import compresskit.codec
from compresskit.codec.bitstream import MAGIC, Header, Item, Stream, StreamLimits, pack, section_sizes, unpack
from compresskit.codec.signal import Scale
from compresskit.codec.stream import DTYPES, GUARDS, METHODS, PROGRESSIVE, VERSIONS
from compresskit.errors import InputError

FORMAT = Path(compresskit.codec.__path__[0]) / "FORMAT.md"
HEADER = Header("coin++", b"abcd", (16, 16), 5)
PICTURE = Item("", "image", "png", "|u1", (1, 32, 32, 3), Scale(0.0, 1.0, 256), 255.0)
SMALL = Stream(HEADER, (PICTURE,), (b"xyz",))
GRID = Item("t2m.nc", "climate", "nc", "<f4", (24, 46, 90, 1), Scale(233.1, 0.0011, 65536), 83.5, b"CDF" * 50, b"mask", True)
FULL = Stream(
    Header("coin", b"", (3, 5), 16, "max-error", 0.25, bytes(range(32))),
    (GRID, replace(GRID, name="sst.nc", metadata=b""), PICTURE),
    (b"", b"chunk", bytes(300)),
    (b"r1", b"", b"r3"),
    b"tables",
    b"base",
)
ORDERED = replace(SMALL, version=3)
STREAMS = {"small": SMALL, "full": FULL, "ordered": ORDERED}

finite = st.floats(-1e150, 1e150)
names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=12).filter(lambda name: name not in (".", ".."))
scales = st.builds(Scale, finite, st.floats(1e-300, 1e150), st.integers(1, 65536)) | st.sampled_from(
    [Scale(0.0, 1.0, 256), Scale(-32768.0, 1.0, 65536)]
)
formats = st.sampled_from([("image", "png"), ("audio", "wav"), ("volume", "nii.gz"), ("array", "npy"), ("image", "gif"), ("mesh-2", "x_y")])


@st.composite
def items(draw: st.DrawFn) -> Item:
    modality, format_ = draw(formats)
    shape = tuple(draw(st.lists(st.integers(1, 9) | st.just(9), min_size=3, max_size=7)))
    scale = draw(scales)
    peak = draw(st.just((scale.levels - 1) * scale.step) | st.floats(0, 1e300))
    own, mask = draw(st.binary(max_size=20)), draw(st.binary(max_size=5))
    return Item(draw(names), modality, format_, draw(st.sampled_from(DTYPES)), shape, scale, peak, own, mask, draw(st.booleans()))


@st.composite
def headers(draw: st.DrawFn) -> Header:
    guard = draw(st.sampled_from(GUARDS))
    edge = draw(st.integers(1, 300) | st.sampled_from([8, 12, 16, 24, 32]))
    patch = draw(st.lists(st.integers(1, 300), max_size=3).map(tuple) | st.integers(0, 3).map(lambda axes: (edge,) * axes))
    tolerance = draw(st.floats(0, 1e300)) if guard != "none" else 0.0
    base, digest = draw(st.sampled_from([b"", b"\0abc"])), draw(st.sampled_from([b"", bytes(32)]))
    return Header(draw(st.sampled_from(METHODS)), base, patch, draw(st.integers(0, 16)), guard, tolerance, digest)


parts = st.lists(st.binary(max_size=9), max_size=4).map(tuple)
blobs = st.binary(max_size=20)
runs = st.lists(st.tuples(items(), st.integers(1, 3)), min_size=1, max_size=3)
several = runs.map(lambda drawn: tuple(item for item, count in drawn for _ in range(count)))
streams = st.builds(Stream, headers(), several, parts, parts, blobs, blobs, st.sampled_from(VERSIONS))


@settings(max_examples=500)
@given(streams)
def test_streams_come_back(stream: Stream) -> None:
    data = pack(stream)
    assert unpack(data) == stream
    sizes = section_sizes(data)
    assert sum(sizes.values()) == len(data)
    assert min(sizes.values()) >= 0
    assert pack(unpack(data)) == data


@pytest.mark.parametrize("name", STREAMS)
def test_every_flipped_bit_and_every_truncation_is_noticed(name: str) -> None:
    data = pack(STREAMS[name])
    assert unpack(data) == STREAMS[name]
    damaged = [data[:length] for length in range(len(data))]
    damaged += [data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :] for at in range(len(data)) for bit in range(8)]
    damaged += [data[:at] + bytes((data[at] ^ 0xFF,)) + data[at + 1 :] for at in range(len(data))]
    damaged += [data + tail for tail in (b"\0", b"\n", bytes(4), data)]
    for case in damaged:
        for read in (unpack, section_sizes):
            with pytest.raises(InputError, match="bitstream"):
                read(case)


def test_the_example_of_the_specification_is_what_is_packed() -> None:
    block = FORMAT.read_text().split("## Example")[1].split("```")[1]
    lines = [re.match(r"(?:[0-9a-f]{2} )*[0-9a-f]{2}(?= {2,}|$)", line) for line in block.strip().splitlines()]
    assert pack(SMALL) == bytes.fromhex("".join(line.group() for line in lines if line))


SPEECH = Item("", "audio", "flac", "<i2", (1, 16000, 2), Scale(-32768.0, 1.0, 65536), 65535.0)
GOLDEN = {
    "a picture": (
        SMALL,
        "c01e01 10 65 61626364 001220 78797a a5ee7bcd",
    ),
    "speech with a guard": (
        Stream(Header("plain", guard="lossless"), (SPEECH,), (), (b"r",)),
        "c01e01 4a 00 02 6301807d 0803010172 bf5148ef",
    ),
    "two runs": (
        Stream(HEADER, (PICTURE, PICTURE, replace(PICTURE, shape=(2, 7, 9, 4), peak=1.5)), (b"x", b"")),
        "c01e01 70 65 61626364 03 02001220 01004702040709010000c03f 070402010078 6963001f",
    ),
    "names and metadata, too short to deflate": (
        Stream(HEADER, (replace(PICTURE, name="a.png", metadata=b"{}"),), (b"x",)),
        "c01e01 50 65 61626364 001220 0208070105612e706e67 03050401027b7d 0703010178 a7778538",
    ),
    "a spelled format": (
        Stream(HEADER, (replace(PICTURE, format="gif", scale=Scale(0.1, 0.5, 9), peak=7.0),), (b"x",)),
        "c01e01 10 65 61626364 f07205696d61676503676966 20 009a9999999999b93f010000003f09 10 78 dbe51dbb",
    ),
}
DEFLATED = "c01e01 70 65 61626364 08 08001220 022559e3e08282b4a2fcf47803bd82bc7430cb10ce3282b38ce12c1338cb14ce3283b3cc412c00 0703010178 adc800e7"


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_streams_of_version_1(name: str) -> None:
    stream, data = GOLDEN[name]
    assert unpack(bytes.fromhex(data)) == stream
    assert pack(stream) == bytes.fromhex(data)


def test_a_deflated_golden_stream_of_version_1() -> None:
    # zlib may learn to deflate better, so that only reading is held to the byte.
    assert unpack(bytes.fromhex(DEFLATED)) == Stream(HEADER, tuple(replace(PICTURE, name=f"frog_{number}.png") for number in range(8)), (b"x",))


def test_a_small_picture_has_a_header_of_12_bytes() -> None:
    sizes = section_sizes(pack(SMALL))
    assert sizes == {"header": 12, "chunks": 3, "checksum": 4}


@pytest.mark.parametrize("version", PROGRESSIVE)
def test_a_chunk_of_a_progressive_version_has_a_length(version: int) -> None:
    assert section_sizes(pack(replace(SMALL, version=version))) == {"header": 12, "chunks": 7, "checksum": 4}
    body = pack(SMALL)[:2] + bytes([version]) + pack(SMALL)[3:-4]
    with pytest.raises(InputError, match=f"version {version} without sections"):
        unpack(body + zlib.crc32(body).to_bytes(4, "little"))


@pytest.mark.parametrize("version", [version for version in VERSIONS if version not in PROGRESSIVE])
def test_a_lone_chunk_of_another_version_has_none(version: int) -> None:
    stream = replace(SMALL, version=version)
    assert section_sizes(pack(stream)) == {"header": 12, "chunks": 3, "checksum": 4}
    assert unpack(pack(stream)) == stream


def test_equal_items_cost_nothing_but_their_names() -> None:
    one = len(pack(SMALL))
    many = pack(replace(SMALL, items=(PICTURE,) * 10_000))
    assert len(many) - one <= 8
    named = pack(replace(SMALL, items=tuple(replace(PICTURE, name=f"{number:05d}.png") for number in range(10_000))))
    assert section_sizes(named)["names"] < 4 * 10_000
    assert len(named) - section_sizes(named)["names"] <= len(many) + 4  # the chunk is a section now


def test_repeated_metadata_is_deflated_together() -> None:
    own = bytes(range(200))
    stream = replace(SMALL, items=tuple(replace(PICTURE, metadata=own) for _ in range(100)))
    assert section_sizes(pack(stream))["metadata"] < 3 * len(own)
    assert unpack(pack(stream)) == stream


HEADER_FAULTS: dict[str, dict[str, Any]] = {
    "method": {"method": "jpeg"},
    "guard": {"guard": "soft"},
    "base": {"base": b"abc"},
    "digest": {"digest": b"abc"},
    "bits": {"bits": 32},
    "patch": {"patch": (0, 3)},
    "tolerance": {"guard": "max-error", "tolerance": math.nan},
    "without a guard": {"tolerance": 1.0},
}
ITEM_FAULTS: dict[str, dict[str, Any]] = {
    "modality": {"modality": "Image"},
    "up to 32": {"format": "x" * 33},
    "dtype": {"dtype": ">i2"},
    "shape": {"shape": (1, 0, 32, 3)},
    "1 to 8 axes": {"shape": (1, 3)},
    "0 levels": {"scale": Scale(0.0, 1.0, 0)},
    "65537 levels": {"scale": Scale(0.0, 1.0, 65537)},
    "step 0": {"scale": Scale(0.0, 0.0, 2)},
    "step nan": {"scale": Scale(0.0, math.nan, 2)},
    "levels from inf": {"scale": Scale(math.inf, 1.0, 2)},
    "to inf": {"scale": Scale(0.0, 1e308, 65536)},
    "peak nan": {"peak": math.nan},
    "peak -1": {"peak": -1.0},
    "without a folder": {"name": "../x"},
    "name '..'": {"name": ".."},
    "Unicode": {"name": "\ud800"},
}


@pytest.mark.parametrize("word", HEADER_FAULTS)
def test_headers_that_no_reader_would_accept_are_not_packed(word: str) -> None:
    with pytest.raises(InputError, match=word):
        pack(replace(SMALL, header=replace(HEADER, **HEADER_FAULTS[word])))


@pytest.mark.parametrize("word", ITEM_FAULTS)
def test_items_that_no_reader_would_accept_are_not_packed(word: str) -> None:
    with pytest.raises(InputError, match=word):
        pack(replace(SMALL, items=(replace(PICTURE, **ITEM_FAULTS[word]),)))


def test_a_stream_without_items_is_not_packed() -> None:
    with pytest.raises(InputError, match="without items"):
        pack(replace(SMALL, items=()))


def test_file_names_that_are_not_utf_8_come_back() -> None:
    stream = replace(SMALL, items=(replace(PICTURE, name=b"caf\xe9.png".decode("utf-8", "surrogateescape")),))
    assert unpack(pack(stream)) == stream


def test_the_memory_of_all_samples_is_limited() -> None:
    data = pack(replace(SMALL, items=(replace(PICTURE, shape=(1, 1024, 1024, 3)),) * 4))
    with pytest.raises(InputError, match=r"4 x png of shape \(1, 1024, 1024, 3\).* 8 MiB .*--max-memory"):
        unpack(data, StreamLimits(max_bytes=8 * 2**20))
    assert len(unpack(data, StreamLimits(max_bytes=16 * 2**20)).items) == 4


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x89PNG\r\n\x1a\n", b"coin"], ids=["nothing", "one byte", "a picture", "text"])
def test_what_is_no_bitstream_is_called_so(data: bytes) -> None:
    with pytest.raises(InputError, match="not a compresskit bitstream"):
        unpack(data)


def test_another_version_is_named() -> None:
    with pytest.raises(InputError, match="bitstream of version 6, and this compresskit reads versions 1, 2, 3, 4, 5"):
        unpack(MAGIC + b"\6" + pack(SMALL)[3:])
