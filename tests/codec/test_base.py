from __future__ import annotations

import hashlib
import json
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
from compresskit.codec.base import METADATA, Base, load_base, save_base
from compresskit.codec.config import LATENT_BITS
from compresskit.codec.exact import OFFSET_LIMIT
from compresskit.errors import InputError

ARRAYS = ("mapping", "centers", "spread")


def test_a_base_network_is_read_as_it_was_written(colour_base: Base) -> None:
    data = save_base(colour_base)
    read = load_base(data, "x")
    assert save_base(replace(read, stored=b"")) == data
    assert (read.name, read.geometry, read.edges, read.omega, read.steps) == ("tiny", "grid", (8, 8), colour_base.omega, colour_base.steps)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(read, name), getattr(colour_base, name))
    for one, other in zip(read.network.layers, colour_base.network.layers, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_array_equal(one.bias, other.bias)
    for bits in LATENT_BITS:
        np.testing.assert_array_equal(read.tables[bits], colour_base.tables[bits])


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
def test_a_damaged_file_is_refused_or_is_a_base_network(colour_base: Base, data: st.DataObject) -> None:
    file = bytearray(colour_base.file)
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


@pytest.mark.parametrize(
    ("tensors", "about"),
    [
        ({}, {"format": "compresskit.base/2"}),
        ({}, {"omega": float("nan")}),
        ({}, {"fraction": float("inf")}),
        ({}, {"fraction": 33}),
        ({}, {"fractions": [float("inf")] * 3}),
        ({}, {"fractions": 3}),
        ({}, {"geometry": "torus"}),
        ({}, {"geometry": "sphere"}),
        ({}, {"edges": "8x8"}),
        ({}, {"steps": [0] * len(LATENT_BITS)}),
        ({}, {"steps": [2**60] * len(LATENT_BITS)}),
        ({}, {"steps": [1]}),
        ({"mapping": None}, {}),
        ({"mapping": np.zeros((0, 2**40), np.int32)}, {}),
        ({"mapping": np.zeros((32, 0), np.int32)}, {}),
        ({"mapping": np.zeros((31, 8), np.int32)}, {}),
        ({"mapping": np.zeros((32, 8), np.float32)}, {}),
        ({"mapping": np.full((32, 8), -(2**31), np.int32)}, {}),
        ({"centers": np.full(8, -(2**63), np.int64)}, {}),
        ({"centers": np.zeros(7, np.int64)}, {}),
        ({"spread": np.zeros(8, np.int64)}, {}),
        ({"layers.0.weight": np.zeros((16, 2), np.uint8)}, {}),
        ({"layers.1.bias": np.full(16, -(2**63), np.int64)}, {}),
        ({"tables.5": np.zeros(9, np.uint8)}, {}),
    ],
    ids=repr,
)
def test_impossible_parts_are_refused(colour_base: Base, tensors: dict[str, np.ndarray | None], about: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="base network"):
        load_base(changed(colour_base, tensors, about), "x")


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 8 + b"{}", bytes(8)], ids=["empty", "text", "a huge header", "no header"])
def test_other_files_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^other\.bin: is no base network"):
        load_base(data, "other.bin")


def test_shifts_are_the_mapped_latents(colour_base: Base) -> None:
    latents = np.random.default_rng(0).integers(-(2**18), 2**18, (5, colour_base.latents))
    turns = np.ldexp(latents.astype(float), -16) @ np.ldexp(colour_base.mapping.astype(float), -colour_base.fraction).T
    shifts = colour_base.shifts(latents)
    for index, layer in enumerate(colour_base.network.layers[:-1]):
        expected = turns.reshape(5, colour_base.network.hidden, -1)[:, index]
        np.testing.assert_allclose(np.ldexp(shifts[:, index].astype(float), -layer.fraction - 14), expected, atol=2.0 ** -(layer.fraction + 13))
    assert np.abs(colour_base.shifts(np.full((1, 8), 2**26))).max() < OFFSET_LIMIT


def test_the_mean_latent_is_the_centre_of_a_bin(colour_base: Base) -> None:
    for bits in LATENT_BITS:
        quantizer = colour_base.quantizer(bits)
        symbols = quantizer.symbols(np.ldexp(colour_base.centers[None].astype(float), -16))
        np.testing.assert_array_equal(symbols, 1 << bits - 1)
        np.testing.assert_array_equal(quantizer.latents(symbols)[0], colour_base.centers)


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
