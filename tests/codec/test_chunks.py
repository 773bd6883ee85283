"""Chunks: what is packed comes back, damage is refused, and a beginning tells what it surely says."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from compresskit.codec.chunks import Frame, SymbolCode, begun_chunk, known_of, pack_chunk, unpack_chunk
from compresskit.codec.config import HALF_BITS
from compresskit.codec.entropy import normalize
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.latentprior import FEATURES, Integers, LatentPrior
from compresskit.codec.latentscan import LAYERED, SHARES, Known, layers
from compresskit.codec.neighbours import places
from compresskit.codec.patchcode import PatchCodes
from compresskit.codec.quantize import UniformQuantizer
from compresskit.codec.varint import pack_varint
from compresskit.errors import InputError

BITS, LATENTS, CHANNELS, LEVELS, STEP = 5, 12, 3, 65536, 1001
LIMIT = 1 << BITS - 1
ZEROS = bytes(1000)
RANDOM = np.random.default_rng(0)
CENTERS = RANDOM.integers(-(2**18), 2**18, LATENTS)


def prior() -> LatentPrior:
    """Random expectations of latents of patches with two axes: maps and weights are such that guesses stay about as large as latents."""
    looked_at = min(FEATURES, LATENTS)
    maps = {axes: RANDOM.integers(-300, 300, (2 * axes.bit_count() * looked_at, LATENTS - 2)) for axes in (1, 2, 3)}
    own, share, near = (RANDOM.integers(0, most, size) for most, size in ((400, (LATENTS, LATENTS)), (4096, LATENTS), (2048, LATENTS)))
    rest = {bits: RANDOM.integers(0, round(2 ** (bits + 4)), (2, LATENTS)) for bits in HALF_BITS}
    return LatentPrior(maps, own, share, near, rest, RANDOM.integers(-(2**16), 2**16, (CHANNELS + 1, LATENTS)))


QUANTIZER = UniformQuantizer(CENTERS - STEP * LIMIT - STEP // 2, np.full(LATENTS, STEP), BITS)
TABLES = normalize(RANDOM.integers(0, 99, (LATENTS, 1 << BITS)))
PRIOR = prior()
WAYS: dict[str, SymbolCode | LatentCode] = {
    "tables": SymbolCode(QUANTIZER, TABLES),
    "plain bits": SymbolCode(QUANTIZER, normalize(np.ones((LATENTS, 1 << BITS), np.int64))),
    "contexts": SymbolCode(QUANTIZER, TABLES, contexts=True),
    "progressive": SymbolCode(QUANTIZER, TABLES, contexts=True, progressive=True),
    "predicted": LatentCode(PRIOR, BITS, STEP),
    "predicted, progressive": LatentCode(PRIOR, BITS, STEP, progressive=True),
}
PREDICTED = [way for way in WAYS if way.startswith("predicted")]
GRIDS = ((1, 1, 1, 1), (1, 1, 1, 23), (1, 1, 7, 8), (1, 4, 3, 4), (2, 2, 3, 3))
ways, predicted_ways, grids = st.sampled_from(list(WAYS)), st.sampled_from(PREDICTED), st.sampled_from(GRIDS)


@dataclass(frozen=True, eq=False)
class Case:
    """Patches of a chunk, some of one colour, the others with coarse latents that are larger than fine ones."""

    code: SymbolCode | LatentCode
    frame: Frame
    patches: PatchCodes
    values: Integers
    weights: Integers

    @property
    def known(self) -> Known:
        return known_of(PRIOR, self.patches.constant, self.patches.colours, self.frame)

    def packed(self) -> bytes:
        return pack_chunk(self.patches, self.code, CENTERS, self.frame, self.weights)

    def unpacked(self, data: bytes) -> PatchCodes:
        return unpack_chunk(data, self.code, CENTERS, self.frame)

    def begun(self, data: bytes) -> tuple[PatchCodes, int]:
        return begun_chunk(data, self.code, CENTERS, self.frame)

    def after(self, told: int, weights: Integers) -> Integers:
        """The latents of patches that are not of one colour, if only the first `told` of them in the order of coding are not as they are guessed."""
        left = told

        def visit(rows: Integers, band: slice, _: np.ndarray, guesses: Integers) -> Integers:
            nonlocal left
            begun, left = left > 0, left - guesses.size
            return self.values[rows, band] if begun else np.zeros_like(guesses)

        assert isinstance(self.code, LatentCode)
        return (self.code.scan(self.known, weights, visit)[1] + CENTERS)[~self.patches.constant]


def frame_on(grid: tuple[int, ...]) -> Frame:
    """A chunk that is one item."""
    count = int(np.prod(grid))
    return Frame(CHANNELS, np.full(count, LEVELS), places([0, count], [grid], 0, count))


@st.composite
def cases(draw: st.DrawFn, ways: st.SearchStrategy[str] = ways) -> Case:
    random, frame, code = np.random.default_rng(draw(st.integers(0, 2**32))), frame_on(draw(grids)), WAYS[draw(ways)]
    constant = random.random(len(frame)) < draw(st.sampled_from([0, 0.3, 1]))
    colours = random.integers(0, LEVELS, (int(constant.sum()), CHANNELS))
    values = np.rint(random.laplace(0, draw(st.sampled_from([0.5, 8])) / (1 + np.arange(LATENTS)), (len(frame), LATENTS))).astype(np.int64)
    weights = random.integers(0, (1 << SHARES) + 1, LAYERED)
    if isinstance(code, SymbolCode):
        values = np.clip(values, -LIMIT, LIMIT - 1)
        return Case(code, frame, PatchCodes(constant, colours, code.latents(values[~constant])), values, weights)
    known = known_of(PRIOR, constant, colours, frame)
    deviations = code.scan(known, weights, lambda rows, band, *_: values[rows, band])[1]
    return Case(code, frame, PatchCodes(constant, colours, (deviations + CENTERS)[~constant].astype(np.int32)), values, weights)


def assert_equal(one: PatchCodes, other: PatchCodes) -> None:
    np.testing.assert_array_equal(one.constant, other.constant)
    np.testing.assert_array_equal(one.colours, other.colours)
    np.testing.assert_array_equal(one.latents, other.latents)


@given(cases())
def test_a_chunk_is_unpacked_as_it_was_packed(case: Case) -> None:
    data = case.packed()
    assert_equal(case.unpacked(data), case.patches)
    # Behind their end, range-coded latents go on with zeros.
    told, known = case.begun(data + ZEROS if len(case.patches.latents) else data)
    assert_equal(told, case.patches)
    assert known == len(case.frame) * LATENTS


def beginnings(case: Case, drawn: st.DataObject) -> list[tuple[PatchCodes, int]]:
    """What ever more of a chunk tells."""
    data = case.packed()
    lengths = sorted(drawn.draw(st.lists(st.integers(0, len(data)), min_size=2, max_size=4)))
    found = [case.begun(data[:length]) for length in lengths]
    assert [known for _, known in found] == sorted(known for _, known in found)
    for told, known in found:
        if len(told.colours) == len(case.patches.colours):
            np.testing.assert_array_equal(told.constant, case.patches.constant)
        else:
            assert not len(told.colours)
            assert known == 0
            np.testing.assert_array_equal(told.latents, np.tile(CENTERS, (len(case.frame), 1)))
    return [(told, known - len(told.colours) * LATENTS) for told, known in found if len(told.colours) == len(case.patches.colours)]


@given(cases(st.sampled_from([way for way in WAYS if way not in PREDICTED])), st.data())
def test_a_beginning_tells_the_truth_or_the_middle(case: Case, drawn: st.DataObject) -> None:
    for told, known in beginnings(case, drawn):
        agreeing = told.latents == case.patches.latents
        assert known <= np.count_nonzero(agreeing)
        assert (told.latents == np.where(agreeing, case.patches.latents, CENTERS)).all()


@given(cases(predicted_ways), st.data())
def test_a_beginning_of_predicted_latents_tells_the_truth_or_what_is_guessed_after_it(case: Case, drawn: st.DataObject) -> None:
    for told, known in beginnings(case, drawn):
        # Where not even the weights of frames and planes are there, they are 0.
        candidates = [case.weights] if known else [case.weights, np.zeros(LAYERED, np.int64)]
        assert any(np.array_equal(told.latents, case.after(known, weights)) for weights in candidates)


@given(cases(st.sampled_from(["progressive", "predicted, progressive"])), st.integers(0, 2**32))
def test_the_beginning_of_a_progressive_chunk_is_a_coarser_code_of_all_patches(case: Case, seed: int) -> None:
    data = case.packed()
    told, known = case.begun(data[: seed % (len(data) + 1)])
    if not len(told.latents) or len(told.latents) != len(case.patches.latents):
        return
    latents = (known - len(told.colours) * LATENTS) // len(told.latents)
    if isinstance(case.code, LatentCode):  # of which whole layers are told of all
        latents = max((layer.stop for layer in layers(LATENTS, progressive=True) if layer.stop <= latents), default=0)
    else:
        np.testing.assert_array_equal(told.latents[:, latents:], np.tile(CENTERS[latents:], (len(told.latents), 1)))
    np.testing.assert_array_equal(told.latents[:, :latents], case.patches.latents[:, :latents])


@given(cases(predicted_ways))
def test_weights_of_frames_and_planes_are_told_only_where_there_are_any(case: Case) -> None:
    assume(not case.known.layered)
    assert replace(case, weights=np.zeros(LAYERED, np.int64)).packed() == case.packed()


@pytest.mark.parametrize("code", WAYS.values(), ids=WAYS)
def test_constant_patches_cost_next_to_nothing(code: SymbolCode | LatentCode) -> None:
    black = PatchCodes(np.ones(256, np.bool_), np.zeros((256, 3), np.int64), np.empty((0, LATENTS), np.int32))
    assert len(pack_chunk(black, code, CENTERS, frame_on((1, 1, 16, 16)))) < 32


@pytest.mark.parametrize("way", PREDICTED)
def test_neighbours_of_one_colour_let_expect_what_is_next_to_them(way: str) -> None:
    """Patches that are what is guessed from the colours around them take less than where colours tell nothing."""
    frame, code = frame_on((1, 1, 9, 9)), WAYS[way]
    assert isinstance(code, LatentCode)
    constant, colours = np.arange(81) % 2 == 0, RANDOM.integers(0, LEVELS, (41, CHANNELS))
    known = known_of(PRIOR, constant, colours, frame)
    deviations = code.scan(known, np.zeros(LAYERED, np.int64), lambda *call: np.zeros_like(call[3]))[1]
    assert np.abs(deviations[~constant]).max() > STEP
    codes = PatchCodes(constant, colours, (deviations + CENTERS)[~constant].astype(np.int32))
    data = pack_chunk(codes, code, CENTERS, frame)
    assert_equal(unpack_chunk(data, code, CENTERS, frame), codes)
    values = replace(code, prior=replace(PRIOR, maps={}))  # where nothing is guessed, latents are values
    near = PatchCodes(constant, colours, ((deviations // STEP * STEP) + CENTERS)[~constant].astype(np.int32))
    assert len(data) < len(pack_chunk(near, values, CENTERS, frame))


PAIR = frame_on((1, 1, 1, 2))
MASK = np.packbits([True, False]).tobytes()
BOTH = zlib.compress(b"\xc0" + bytes(24))
DAMAGE = [
    (b"\x02", "a chunk of unknown kind 2"),
    (b"\x01\x03abc", "cannot be inflated"),
    *(
        (b"\x01" + pack_varint(len(data)) + data, "differ in number")
        for data in (zlib.compress(b""), zlib.compress(MASK), zlib.compress(MASK + bytes(99)))
    ),
]
CUT_OFF = [
    (b"", "declared where 0 are left"),
    (b"\x01\x05abc", "5 bytes declared where 3 are left"),
    (b"\x01" + pack_varint(len(BOTH)) + BOTH + b"x", "bytes after its last patch"),
]


@pytest.mark.parametrize("code", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("chunk", "reason"), [*CUT_OFF, *DAMAGE], ids=range(8))
def test_a_damaged_chunk_is_refused(chunk: bytes, reason: str, code: SymbolCode | LatentCode) -> None:
    with pytest.raises(InputError, match=reason):
        unpack_chunk(chunk, code, CENTERS, PAIR)


@pytest.mark.parametrize("code", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("chunk", "reason"), DAMAGE, ids=range(5))
def test_damage_in_a_beginning_is_refused_where_it_shows(chunk: bytes, reason: str, code: SymbolCode | LatentCode) -> None:
    with pytest.raises(InputError, match=reason):
        begun_chunk(chunk, code, CENTERS, PAIR)


OWN_KINDS = {"tables": {0, 1}, "contexts": {0, 1, 2}, "progressive": {3}, "predicted": {4}, "predicted, progressive": {4}}


@pytest.mark.parametrize(("way", "kind"), [(way, kind) for way, own in OWN_KINDS.items() for kind in range(6) if kind not in own])
def test_a_chunk_holds_latents_as_its_version_has_them(way: str, kind: int) -> None:
    for unpack in (unpack_chunk, begun_chunk):
        with pytest.raises(InputError, match=r"in a way that its version does not have|neither range-coded nor plain bits"):
            unpack(bytes([0, kind]), WAYS[way], CENTERS, PAIR)


@given(cases(predicted_ways), st.data())
def test_damaged_latents_are_refused_in_one_line_or_are_latents(case: Case, drawn: st.DataObject) -> None:
    data = bytearray(case.packed())
    where = drawn.draw(st.integers(0, len(data) - 1))
    data[where : where + drawn.draw(st.integers(0, 3))] = drawn.draw(st.binary(max_size=3))
    for unpack in (case.unpacked, case.begun):
        try:
            found = unpack(bytes(data))
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017  both ways out are right
        else:
            codes = found if isinstance(found, PatchCodes) else found[0]
            assert len(codes) == len(case.frame) == len(codes.colours) + len(codes.latents)
