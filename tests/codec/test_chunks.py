"""Chunks: what is packed comes back, damage is refused, and a beginning tells what it surely says."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.chunks import begun_chunk, pack_chunk, pack_progressive, unpack_chunk
from compresskit.codec.entropy import normalize
from compresskit.codec.neighbours import Places, places
from compresskit.codec.patchcode import PatchCodes
from compresskit.codec.varint import pack_varint
from compresskit.errors import InputError

BITS, LATENTS = 5, 12
MIDDLE = 1 << BITS - 1
ZEROS = bytes(1000)
TABLES = normalize(np.random.default_rng(0).integers(0, 99, (LATENTS, 1 << BITS)))
FLAT = normalize(np.ones((LATENTS, 1 << BITS), np.int64))


@st.composite
def codes(draw: st.DrawFn) -> PatchCodes:
    """Patches, some of one colour, the others with coarse latents that are larger than fine ones."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    constant = random.random(draw(st.integers(1, 60))) < draw(st.sampled_from([0, 0.3, 1]))
    count = int(constant.sum())
    values = random.laplace(0, draw(st.sampled_from([0.5, 8])) / (1 + np.arange(LATENTS)), (len(constant) - count, LATENTS))
    symbols = np.clip(np.rint(values), -MIDDLE, MIDDLE - 1).astype(np.int32) + MIDDLE
    return PatchCodes(constant, random.integers(0, 65536, (count, 3)), symbols)


def line(count: int) -> Places:
    """The places of so many patches in a row."""
    return places([0, count], [(1, 1, count)], 0, count)


def packed(patches: PatchCodes, way: str) -> tuple[bytes, tuple[Any, ...], dict[str, bool]]:
    """A chunk, and how it is unpacked."""
    count, progressive = len(patches), way == "progressive"
    if progressive:
        return pack_progressive(patches, TABLES, line(count)), (count, 3, TABLES, line(count)), {"progressive": True}
    tables, lying = FLAT if way == "plain bits" else TABLES, line(count) if way == "contexts" else None
    return pack_chunk(patches, tables, lying), (count, 3, tables, lying), {}


def assert_equal(one: PatchCodes, other: PatchCodes) -> None:
    np.testing.assert_array_equal(one.constant, other.constant)
    np.testing.assert_array_equal(one.colours, other.colours)
    np.testing.assert_array_equal(one.symbols, other.symbols)


ways = st.sampled_from(["tables", "plain bits", "contexts", "progressive"])


@given(codes(), ways)
def test_a_chunk_is_unpacked_as_it_was_packed(patches: PatchCodes, way: str) -> None:
    data, how, progressive = packed(patches, way)
    assert_equal(unpack_chunk(data, *how, **progressive), patches)
    # Behind their end, range-coded symbols go on with zeros.
    told, known = begun_chunk(data + ZEROS, *how, **progressive) if len(patches.symbols) else begun_chunk(data, *how, **progressive)
    assert_equal(told, patches)
    assert known == len(patches) * LATENTS


@given(codes(), ways, st.data())
def test_a_beginning_tells_the_truth_or_the_middle(patches: PatchCodes, way: str, drawn: st.DataObject) -> None:
    data, how, progressive = packed(patches, way)
    lengths = sorted(drawn.draw(st.lists(st.integers(0, len(data)), min_size=2, max_size=4)))
    found = [begun_chunk(data[:length], *how, **progressive) for length in lengths]
    assert [known for _, known in found] == sorted(known for _, known in found)
    for told, known in found:
        if not len(told.colours):
            assert known <= len(patches.symbols) * LATENTS
            assert len(told.symbols) == len(patches) or not len(patches.colours)
        if len(told.colours) == len(patches.colours):
            np.testing.assert_array_equal(told.constant, patches.constant)
            agreeing = told.symbols == patches.symbols
            assert np.count_nonzero(agreeing) + len(patches.colours) * LATENTS >= known
            assert (told.symbols[~agreeing] == MIDDLE).all()
        else:
            assert known == 0
            assert (told.symbols == MIDDLE).all()


@given(codes(), st.integers(0, 2**32))
def test_the_beginning_of_a_progressive_chunk_is_a_coarser_code_of_all_patches(patches: PatchCodes, seed: int) -> None:
    data, how, progressive = packed(patches, "progressive")
    told, known = begun_chunk(data[: seed % (len(data) + 1)], *how, **progressive)
    if len(told.symbols) and len(told.symbols) == len(patches.symbols):
        latents = (known - len(told.colours) * LATENTS) // len(told.symbols)
        np.testing.assert_array_equal(told.symbols[:, :latents], patches.symbols[:, :latents])
        assert (told.symbols[:, latents:] == MIDDLE).all()


def test_constant_patches_cost_next_to_nothing() -> None:
    black = PatchCodes(np.ones(256, np.bool_), np.zeros((256, 3), np.int64), np.empty((0, LATENTS), np.int32))
    assert len(pack_chunk(black, TABLES)) < 32


MASK = np.packbits([True, False]).tobytes()
DAMAGE = [
    (b"\x02", "a chunk of unknown kind 2"),
    (b"\x01\x03abc", "cannot be inflated"),
    *(
        (b"\x01" + pack_varint(len(data)) + data, "differ in number")
        for data in (zlib.compress(b""), zlib.compress(MASK), zlib.compress(MASK + bytes(99)))
    ),
    (b"\x00\x02", "neither range-coded nor plain bits"),
]


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (b"", "declared where 0 are left"),
        (b"\x01\x05abc", "5 bytes declared where 3 are left"),
        (b"\x01" + pack_varint(len(zlib.compress(b"\xc0" + bytes(24)))) + zlib.compress(b"\xc0" + bytes(24)) + b"x", "bytes after its last patch"),
        *DAMAGE,
    ],
    ids=range(9),
)
def test_a_damaged_chunk_is_refused(chunk: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        unpack_chunk(chunk, 2, 3, TABLES)


@pytest.mark.parametrize(("chunk", "reason"), DAMAGE, ids=range(len(DAMAGE)))
def test_damage_in_a_beginning_is_refused_where_it_shows(chunk: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        begun_chunk(chunk, 2, 3, TABLES)


@pytest.mark.parametrize("kind", range(3))
def test_a_progressive_chunk_holds_nothing_else(kind: int) -> None:
    for unpack in (unpack_chunk, begun_chunk):
        with pytest.raises(InputError, match="in no progressive order"):
            unpack(bytes([0, kind]), 2, 3, TABLES, line(2), progressive=True)
