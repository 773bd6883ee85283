from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from compresskit.codec import shelf
from compresskit.codec.base import METADATA, SYMBOL_BITS, Base, load_base, save_base
from compresskit.codec.config import HALF_BITS
from compresskit.codec.exact import ACTIVATION_BITS, OFFSET_LIMIT, WEIGHT_LIMIT
from compresskit.codec.latentprior import LIMIT
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.errors import InputError

ARRAYS = ("mapping", "centers", "spread")


def test_a_base_network_is_read_as_it_was_written(either: Base) -> None:
    data = save_base(either)
    read = load_base(data, "x")
    assert save_base(replace(read, stored=b"")) == data
    for name in ("name", "geometry", "edges", "omega", "fraction", "steps", "part"):
        assert getattr(read, name) == getattr(either, name)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(read, name), getattr(either, name))
    for one, other in zip(read.network.layers, either.network.layers, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_array_equal(one.bias, other.bias)
        assert one.fraction == other.fraction


def test_arrays_are_written_however_they_lie_in_memory(either: Base) -> None:
    turned = replace(either, mapping=np.asfortranarray(either.mapping), stored=b"")
    assert save_base(turned) == save_base(either)


def test_its_prior_is_read_as_it_was_written(colour_base: Base) -> None:
    read = load_base(save_base(colour_base), "x").prior
    assert read is not None
    assert colour_base.prior is not None
    expected = colour_base.prior.tensors()
    assert set(expected) >= {"prior.map.1", "prior.map.2", "prior.map.3", "prior.own", "prior.flat"}
    assert set(read.tensors()) == set(expected)
    for name, tensor in read.tensors().items():
        np.testing.assert_array_equal(tensor, expected[name])


def test_its_tables_and_encoder_are_read_as_they_were_written(former_base: Base) -> None:
    read = load_base(save_base(former_base), "x")
    for bits in SYMBOL_BITS:
        np.testing.assert_array_equal(read.tables[bits], former_base.tables[bits])
    np.testing.assert_allclose(read.encoder, former_base.encoder, rtol=1e-3, atol=1e-7)
    np.testing.assert_array_equal(read.offset, former_base.offset)


def test_its_name_is_that_of_the_very_file(colour_base: Base) -> None:
    """Another version of zlib or safetensors would write other bytes."""
    data = save_base(colour_base)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    other = save(dict(reversed(load(data).items())), metadata={**header["__metadata__"], "note": "x"})
    assert other != data
    read = load_base(other, "x")
    assert (read.file, read.digest) == (other, hashlib.sha256(other).digest())


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_is_a_base_network(either: Base, data: st.DataObject) -> None:
    file = bytearray(either.file)
    where = data.draw(st.integers(0, len(file) - 1))
    file[where : where + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        read = load_base(bytes(file), "x.safetensors")
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017  both ways out are right
    else:
        assert load_base(read.file, "y").digest == read.digest


def changed(base: Base, tensors: dict[str, np.ndarray | None], about: dict[str, Any]) -> bytes:
    """The file of `base` with other parts; None leaves one out."""
    header = json.loads(base.file[8 : 8 + int.from_bytes(base.file[:8], "little")])
    told = json.loads(header["__metadata__"][METADATA]) | about
    parts = {name: part for name, part in (load(base.file) | tensors).items() if part is not None}
    return save(parts, metadata={METADATA: json.dumps(told)})


IMPOSSIBLE: list[tuple[dict[str, np.ndarray | None], dict[str, Any]]] = [
    ({}, {"format": "compresskit.base/3"}),
    ({}, {"omega": float("nan")}),
    ({}, {"fraction": float("inf")}),
    ({}, {"fraction": 33}),
    ({}, {"fractions": [float("inf")] * 3}),
    ({}, {"fractions": 3}),
    ({}, {"geometry": "torus"}),
    ({}, {"geometry": "sphere"}),
    ({}, {"edges": "8x8"}),
    ({}, {"steps": [1]}),
    *(({}, {"steps": [step] * len(numbers)}) for step in (0, 2**60) for numbers in (HALF_BITS, SYMBOL_BITS)),
    ({"mapping": None}, {}),
    ({"mapping": np.zeros((0, 2**40), np.int32)}, {}),
    *(({"mapping": np.zeros((rows, columns), np.int32)}, {}) for rows, columns in ((51, 0), (50, 8), (64, 0), (63, 8))),
    *(({"mapping": np.zeros((rows, 8), np.float32)}, {}) for rows in (51, 64)),
    *(({"mapping": np.full((rows, 8), -(2**31), np.int32)}, {}) for rows in (51, 64)),
    ({"centers": np.full(8, -(2**63), np.int64)}, {}),
    ({"centers": np.zeros(7, np.int64)}, {}),
    ({"spread": np.zeros(8, np.int64)}, {}),
    *(({"layers.0.weight": np.zeros((width, 2), np.uint8)}, {}) for width in (16, 32)),
    *(({"layers.1.bias": np.full(width, -(2**63), np.int64)}, {}) for width in (16, 32)),
]


@pytest.mark.parametrize(("tensors", "about"), IMPOSSIBLE, ids=repr)
def test_impossible_parts_are_refused(either: Base, tensors: dict[str, np.ndarray | None], about: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="base network"):
        load_base(changed(either, tensors, about), "x")


def test_parts_of_the_other_format_are_refused(colour_base: Base, former_base: Base) -> None:
    for base, format in ((colour_base, "compresskit.base/1"), (former_base, "compresskit.base/2")):
        with pytest.raises(InputError, match="base network"):
            load_base(changed(base, {}, {"format": format}), "x")


@pytest.mark.parametrize(
    "tensors",
    [
        {"tables.5": np.zeros(9, np.uint8)},
        {"tables.5": None},
        {"encoder": np.zeros((191, 8), np.float16)},
        {"encoder": None},
        {"offset": np.zeros(7, np.float32)},
    ],
    ids=repr,
)
def test_impossible_tables_are_refused(former_base: Base, tensors: dict[str, np.ndarray | None]) -> None:
    with pytest.raises(InputError, match="base network"):
        load_base(changed(former_base, tensors, {}), "x")


@pytest.mark.parametrize(
    "tensors",
    [
        *({f"prior.{name}": None} for name in ("own", "share", "near", "flat", "rest")),
        *({f"prior.{name}": np.zeros(7, np.int16)} for name in ("share", "near")),
        *({f"prior.{name}": np.full(8, -(2**15), np.int16)} for name in ("share", "near")),
        {"prior.share": np.zeros(8, np.int32)},
        {"prior.own": np.zeros((8, 7), np.int16)},
        {"prior.own": np.full((8, 8), -(2**15), np.int16)},
        {"prior.map.1": np.zeros(16, np.int16)},
        {"prior.map.1": np.zeros((0, 8), np.int16)},
        {"prior.map.1": np.zeros((15, 8), np.int16)},
        {"prior.map.1": np.zeros((18, 8), np.int16)},
        {"prior.map.3": np.zeros((16 + 2, 8), np.int16)},
        {"prior.map.1": np.zeros((16, 9), np.int16)},
        {"prior.map.1": np.full((16, 8), -(2**15), np.int16)},
        {"prior.map.4": np.zeros((16, 8), np.int16)},
        {"prior.rest": np.zeros((18, 2, 8), np.int32)},
        {"prior.rest": np.zeros((19, 2, 7), np.int32)},
        {"prior.flat": np.zeros((3, 8), np.int32)},
        {"prior.flat": np.zeros((4, 7), np.int32)},
        {"prior.flat": np.full((4, 8), LIMIT, np.int32)},
        {"prior.flat": np.full((4, 8), -(2**31), np.int32)},
    ],
    ids=lambda tensors: " ".join(name if part is None else f"{name}{list(part.shape)}{part.dtype}" for name, part in tensors.items()),
)
def test_impossible_expectations_are_refused(colour_base: Base, tensors: dict[str, np.ndarray | None]) -> None:
    with pytest.raises(InputError, match="base network"):
        load_base(changed(colour_base, tensors, {}), "x")


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 8 + b"{}", bytes(8)], ids=["empty", "text", "a huge header", "no header"])
def test_other_files_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^other\.bin: is no base network"):
        load_base(data, "other.bin")


def slow_modulations(base: Base, latents: np.ndarray) -> np.ndarray:
    """The mapped latents (P, modulations) in Python's unbounded integers."""
    return np.array([[sum(map(operator.mul, row, latent)) for row in base.mapping.tolist()] for latent in latents.tolist()], object)


def rounded(values: np.ndarray, drop: int) -> np.ndarray:
    """Unbounded integers without their `drop` lowest bits, halves rounded up."""
    return (2 * values + 2**drop) // 2 ** (drop + 1) if drop > 0 else values * 2**-drop


@pytest.mark.parametrize("reach", [2, 2**18, 2**26 - 1])
def test_latents_are_mapped_exactly(either: Base, reach: int) -> None:
    generator = np.random.default_rng(reach)
    latents = np.append(generator.integers(-reach, reach + 1, (5, either.latents)), [[reach] * either.latents, [-reach] * either.latents], axis=0)
    large = replace(either, mapping=generator.integers(1 - 2**24, 2**24, either.mapping.shape), stored=b"")
    for base in (either, large):
        np.testing.assert_array_equal(base._modulations(latents), slow_modulations(base, latents).astype(np.int64))


@pytest.mark.parametrize("reach", [2**18, 2**26 - 1])
def test_shifts_are_the_mapped_latents(former_base: Base, reach: int) -> None:
    latents = np.random.default_rng(0).integers(-reach, reach, (5, former_base.latents))
    turns = slow_modulations(former_base, latents).reshape(5, former_base.network.hidden, -1)
    shifts = former_base.shifts(latents)
    for index, layer in enumerate(former_base.network.layers[:-1]):
        expected = rounded(turns[:, index], former_base.fraction + LATENT_FRACTION - layer.fraction - ACTIVATION_BITS)
        np.testing.assert_array_equal(shifts[:, index], np.clip(expected, 1 - OFFSET_LIMIT, OFFSET_LIMIT - 1).astype(np.int64))
    assert np.abs(former_base.shifts(np.full((1, 8), 2**26))).max() < OFFSET_LIMIT


@pytest.mark.parametrize("reach", [2**18, 2**26 - 1])
def test_outputs_are_the_mapped_latents_added_to_the_output_layer(colour_base: Base, reach: int) -> None:
    latents, layer = np.random.default_rng(0).integers(-reach, reach, (5, colour_base.latents)), colour_base.network.layers[-1]
    added = slow_modulations(colour_base, latents).reshape(5, colour_base.channels, -1)
    drop = colour_base.fraction + LATENT_FRACTION - layer.fraction
    weights, biases = rounded(added[..., :-1], drop) + layer.weight, rounded(added[..., -1], drop - ACTIVATION_BITS) + layer.bias
    found = colour_base.outputs(latents)
    np.testing.assert_array_equal(found[..., :-1], np.clip(weights, 1 - WEIGHT_LIMIT, WEIGHT_LIMIT - 1).astype(np.int64))
    np.testing.assert_array_equal(found[..., -1], np.clip(biases, 1 - OFFSET_LIMIT, OFFSET_LIMIT - 1).astype(np.int64))
    np.testing.assert_array_equal(
        colour_base.outputs(np.zeros((1, colour_base.latents), np.int64))[0], np.concatenate([layer.weight, layer.bias[:, None]], axis=1)
    )


def test_latents_as_far_out_as_streams_may_hold_stay_within_bounds(colour_base: Base) -> None:
    far = replace(colour_base, mapping=np.full_like(colour_base.mapping, 2**24 - 1), stored=b"")
    found = far.outputs(np.full((1, 8), 2**26 - 1))
    assert np.abs(found[..., :-1]).max() < WEIGHT_LIMIT
    assert np.abs(found[..., -1]).max() < OFFSET_LIMIT


def test_the_mean_latent_is_the_centre_of_a_bin(former_base: Base) -> None:
    base = replace(former_base, centers=np.arange(8) * 999 - 3000)
    for bits in SYMBOL_BITS:
        quantizer = base.quantizer(bits)
        symbols = quantizer.symbols(np.ldexp(base.centers[None].astype(float), -16))
        np.testing.assert_array_equal(symbols, 1 << bits - 1)
        np.testing.assert_array_equal(quantizer.latents(symbols)[0], base.centers)
        np.testing.assert_array_equal(quantizer.bins(quantizer.latents(symbols + 2)), symbols + 2)


def test_a_base_network_is_found_by_its_hash(colour_base: Base, base_file: Callable[[int, int], Path]) -> None:
    given = shelf.named(str(base_file(2, 3)))
    assert shelf.find(colour_base.digest[:4], given) is given
    with pytest.raises(InputError, match=r"needs the base network 00000000, .* is " + given.digest[:4].hex() + ": give its file with --base$"):
        shelf.find(bytes(4), given)
    with pytest.raises(InputError, match="needs the base network 00000000"):
        shelf.find(bytes(4))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing: cannot be read: no such file"):
        shelf.named(str(tmp_path / "missing"))
