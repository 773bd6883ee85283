from __future__ import annotations

import io
import itertools
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compresskit.codec.lattice import choose_order, halvings
from compresskit.codec.residual import decode_residual, encode_residual
from compresskit.errors import InputError

DATA = Path(__file__).parents[2] / "../shared/data"
Ints = NDArray[np.int64]

_I = np.arange(12)
_SQUARES = _I[:, None] ** 2 * 3 + _I * _I[:, None] % 7
_COUNT = np.arange(150)
FROZEN_VALUES: dict[str, Ints] = {
    "grid": np.stack([_SQUARES, _SQUARES // 2 + 5], axis=-1)[None],
    "line": (_COUNT * 37 % 101 * (_COUNT % 13)).reshape(1, 150, 1),
}
FROZEN = {
    "grid": "030001f102f0140601d15c0137c0003346377da4fae53a487b36c23c20c1b3aebb8d84ef6148ba589e2c19b4d27d681692de90507b4ebf3a71606f98f8e6672d7634828e"
    "6c15f489aa8e0cab6c0bc48fe4ed5921904700829c2e5d708059d7e064e45ac4958e9f572e4dcecaab1bc08e8c7178c65fb1ab2cbd68d4fad1f86142a9d7a213aa4fc8f7"
    "c37184e478cc5a867b83bc",
    "line": "03000198093410885c4c808d3c74ffc0290b0448454400445df7116be8f44935a10e0baf1c5b390a693adc903e45e8c7f15370c503a44764a39aff22fb20da44fc2d9e30"
    "f51107062d5c3d746595b6efa0bd02835db4ff93699049a08a852b62b3a0c26459b122702f33b9d49cd3029929a64b5f4676f87a4467aa4c7ff6e31ac7b8a19395c28364"
    "eb1570a8fc2904676ac920",
}

SHAPES = st.one_of(
    st.tuples(st.just(1), st.integers(1, 300), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), *[st.integers(1, 7)] * 3, st.integers(1, 10)),
)


def waves(shape: tuple[int, ...], seed: int, amplitude: float) -> Ints:
    """Something smooth and some noise."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")
    smooth = np.sin(sum(axis * rng.uniform(-0.3, 0.3) for axis in grid))
    return np.rint(amplitude * (smooth + rng.normal(0, 0.02, shape))).astype(np.int64)


@settings(max_examples=20)
@given(SHAPES, st.integers(0, 2**32 - 1), st.sampled_from([0.4, 100, 30_000, 2**39]), st.sampled_from(["zeros", "near", "unrelated"]))
def test_values_come_back_exactly(shape: tuple[int, ...], seed: int, amplitude: float, kind: str) -> None:
    values = waves(shape, seed, amplitude)
    prediction = {"zeros": np.zeros_like(values), "near": values // 3 * 3, "unrelated": waves(shape, seed + 1, amplitude)}[kind]
    data = encode_residual(values, prediction)
    assert np.array_equal(decode_residual(data, prediction), values)


@settings(max_examples=20)
@given(SHAPES, st.integers(0, 2**32 - 1))
def test_any_integers_come_back(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-1, 2, shape) << rng.integers(0, 41, shape)
    prediction = rng.integers(-1, 2, shape) << rng.integers(0, 41, shape)
    assert np.array_equal(decode_residual(encode_residual(values, prediction), prediction), values)


@pytest.mark.parametrize("kind", FROZEN)
def test_streams_of_this_version_decode_for_ever(kind: str) -> None:
    values = FROZEN_VALUES[kind]
    assert np.array_equal(decode_residual(bytes.fromhex(FROZEN[kind]), values // 16 * 16), values)


@settings(max_examples=20)
@given(SHAPES, st.integers(0, 2**32 - 1), st.sampled_from([1, 20, 127]))
def test_never_larger_than_deflated_samples(shape: tuple[int, ...], seed: int, amplitude: float) -> None:
    values = np.clip(waves(shape, seed, amplitude) + 128, 0, 255)
    assert len(encode_residual(values, np.zeros_like(values))) <= len(zlib.compress(values.astype(np.uint8).tobytes(), 9)) + 12


def test_a_right_prediction_costs_a_byte() -> None:
    values = waves((1, 8, 8, 1), 0, 100)
    assert len(encode_residual(values, values)) == 1


def test_no_samples_are_a_byte_too() -> None:
    nothing = np.zeros((0, 4, 4, 1), dtype=np.int64)
    assert decode_residual(encode_residual(nothing, nothing), nothing).shape == nothing.shape


def test_a_good_prediction_is_used_and_a_bad_one_does_no_harm() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 256, (1, 64, 64, 1))
    alone = len(encode_residual(values, np.zeros_like(values)))
    near = len(encode_residual(values, values + rng.integers(-2, 3, values.shape)))
    unrelated = len(encode_residual(values, rng.integers(0, 256, values.shape)))
    assert near < alone / 2
    assert unrelated < alone * 1.03


def test_steps_between_samples_are_found() -> None:
    values = waves((1, 32, 32, 1), 4, 100)
    zeros = np.zeros_like(values)
    assert len(encode_residual(257 * values - 5, zeros)) <= len(encode_residual(values, zeros)) + 4


def test_channels_help_one_another() -> None:
    gray = np.random.default_rng(5).integers(0, 256, (1, 64, 64, 1))
    one = len(encode_residual(gray, np.zeros_like(gray)))
    colour = np.concatenate([gray, gray // 2, 255 - gray], axis=-1)
    assert len(encode_residual(colour, np.zeros_like(colour))) < 1.4 * one


def test_samples_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="2\\*\\*40"):
        encode_residual(np.full((1, 1, 1), 2**40 + 1), np.zeros((1, 1, 1), np.int64))


@given(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)), st.integers(0, 2**32 - 1))
def test_halvings_reach_every_sample_once_and_from_known_ones(shape: tuple[int, ...], seed: int) -> None:
    order = choose_order(np.random.default_rng(seed).integers(0, 9, (*shape, 1)))
    seen = np.zeros(shape, dtype=int)
    seen[(0,) * len(shape)] = 1
    for halving in halvings(shape, order):
        assert (seen[halving.known] == 1).all()
        seen[halving.new] += 1
    assert (seen == 1).all()


def test_orders_that_leave_gaps_are_refused() -> None:
    with pytest.raises(InputError, match="order"):
        list(halvings((4, 4), (0, 0, 0, 1)))


def streams() -> list[tuple[bytes, Ints]]:
    """A stream of every kind, and the prediction that it needs."""
    made = []
    for shape, amplitude in itertools.product([(1, 700, 2), (2, 20, 20, 3)], [3, 3000]):
        values = waves(shape, 6, amplitude)
        made += [(encode_residual(values, guess), guess) for guess in (np.zeros_like(values), values // 7 * 7)]
    repeated = np.tile(np.random.default_rng(7).integers(0, 256, (1, 8, 8, 1)), (1, 8, 1, 1))
    return [*made, (encode_residual(repeated, np.zeros_like(repeated)), np.zeros_like(repeated))]


STREAMS = streams()


def test_the_streams_are_of_every_kind() -> None:
    assert {data[0] for data, _ in STREAMS} == {1, 2, 3}


@settings(max_examples=60)
@given(st.sampled_from(range(len(STREAMS))), st.integers(0, 2**20), st.binary(min_size=1, max_size=6), st.sampled_from(["set", "cut", "insert"]))
def test_damage_is_refused_or_gives_an_array(index: int, place: int, garbage: bytes, how: str) -> None:
    data, prediction = STREAMS[index]
    place = place % len(data) if place % 2 else place % min(len(data), 40)
    tail = {"set": data[place + len(garbage) :], "cut": b"", "insert": data[place:]}[how]
    try:
        values = decode_residual(data[:place] + garbage + tail, prediction)
    except InputError:
        return
    assert values.shape == prediction.shape
    assert values.dtype == np.int64


@pytest.mark.skipif(not (DATA / "kodak").is_dir(), reason="the shared data are not here")
def test_a_photograph_is_smaller_than_its_png() -> None:
    from PIL import Image

    with Image.open(DATA / "kodak" / "kodim07.png") as image:
        part = image.crop((250, 100, 506, 356))
    values = np.asarray(part)[None].astype(np.int64)
    png = io.BytesIO()
    part.save(png, "PNG", optimize=True)
    data = encode_residual(values, np.zeros_like(values))
    assert len(data) < 0.75 * len(png.getvalue())
    assert np.array_equal(decode_residual(data, np.zeros_like(values)), values)


@pytest.mark.skipif(not (DATA / "climate").is_dir(), reason="the shared data are not here")
def test_temperatures_are_half_of_their_deflated_samples() -> None:
    with np.load(DATA / "climate" / "ncep_air_sig995_mon_ltm.npz") as arrays:
        values = np.rint(arrays["temperature"] * 10.0).astype(np.int64)[..., None]
    deflated = zlib.compress((values - values.min()).astype(np.uint16).tobytes(), 9)
    assert len(encode_residual(values, np.zeros_like(values))) < 0.55 * len(deflated)
