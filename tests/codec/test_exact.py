from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.exact import (
    ACTIVATION_BITS,
    MAX_FRACTION,
    MAX_WIDTH,
    OFFSET_LIMIT,
    PHASE_BITS,
    WEIGHT_LIMIT,
    IntegerLayer,
    IntegerNetwork,
    Integers,
    evaluate,
    sine_table,
)
from compresskit.errors import InputError

UNIT = 2**ACTIVATION_BITS


def _layer(draw: st.DrawFn, rng: np.random.Generator, out: int, fan_in: int, *, extreme: bool) -> IntegerLayer:
    """Random parameters, over all that a layer may hold where `extreme`, else those of a trained network."""
    fraction = draw(st.integers(1, MAX_FRACTION) if extreme else st.integers(10, 18))
    weight_limit, bias_limit = (WEIGHT_LIMIT, OFFSET_LIMIT) if extreme else (2**15, 2 ** (fraction + ACTIVATION_BITS))
    return IntegerLayer(rng.integers(1 - weight_limit, weight_limit, (out, fan_in)), rng.integers(1 - bias_limit, bias_limit, out), fraction)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[IntegerNetwork, Integers, Integers | None, int]:
    """A network with points, shifts and levels for it."""
    dims, width, depth, channels = (draw(st.integers(1, most)) for most in (4, 9, 3, 3))
    points, patches = draw(st.integers(0, 7)), draw(st.integers(0, 4))
    extreme = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fan_ins = [dims, *[width] * depth]
    outs = [*[width] * depth, channels]
    layers = tuple(_layer(draw, rng, out, fan_in, extreme=extreme) for out, fan_in in zip(outs, fan_ins, strict=True))
    shifts = rng.integers(1 - OFFSET_LIMIT, OFFSET_LIMIT, (patches, depth, width)) if draw(st.booleans()) else None
    return IntegerNetwork(layers), rng.integers(-UNIT, UNIT + 1, (points, dims)), shifts, draw(st.integers(1, 2**16))


def _slow(network: IntegerNetwork, point: list[int], shifts: list[list[int]], levels: int) -> list[int]:
    """What `evaluate` must give at one point, in Python's unbounded integers."""
    table = sine_table().tolist()
    values = point
    for layer, shift in zip(network.layers, shifts, strict=False):
        drop = layer.fraction + ACTIVATION_BITS - PHASE_BITS
        sums = [_sum(row, values) + bias + extra for row, bias, extra in zip(layer.weight.tolist(), layer.bias.tolist(), shift, strict=True)]
        values = [table[(total + 2 ** (drop - 1)) // 2**drop % 2**PHASE_BITS] for total in sums]
    output = network.layers[-1]
    unit = 2 ** (output.fraction + ACTIVATION_BITS)
    sums = [_sum(row, values) + bias for row, bias in zip(output.weight.tolist(), output.bias.tolist(), strict=True)]
    return [min(max((2 * total * (levels - 1) + unit) // (2 * unit), 0), levels - 1) for total in sums]


def _sum(row: list[int], values: list[int]) -> int:
    return sum(weight * value for weight, value in zip(row, values, strict=True))


@given(_cases(), st.sampled_from([1, 1000, 2**28]))
def test_it_equals_unbounded_integers(case: tuple[IntegerNetwork, Integers, Integers | None, int], max_bytes: int) -> None:
    network, coordinates, shifts, levels = case
    rows = np.zeros((1, network.hidden, network.width), np.int64) if shifts is None else shifts
    expected = [[_slow(network, point, row, levels) for point in coordinates.tolist()] for row in rows.tolist()]
    found = evaluate(network, coordinates, shifts, levels, max_bytes=max_bytes)
    assert found.dtype == np.int64
    assert found.shape == (len(rows), len(coordinates), network.channels)
    assert found.tolist() == expected


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _random_network(rng: np.random.Generator, width: int, depth: int) -> IntegerNetwork:
    def layer(out: int, fan_in: int) -> IntegerLayer:
        return IntegerLayer(rng.integers(-(2**15), 2**15, (out, fan_in)), rng.integers(-(2**30), 2**30, out), 16)

    return IntegerNetwork((layer(width, 2), *(layer(width, width) for _ in range(depth - 1)), layer(3, width)))


@pytest.mark.usefixtures("threads")
def test_threads_and_batches_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    network = _random_network(rng, width=48, depth=3)
    coordinates = rng.integers(-UNIT, UNIT + 1, (700, 2))
    shifts = rng.integers(-(2**31), 2**31, (9, 3, 48))
    torch.set_num_threads(1)
    expected = evaluate(network, coordinates, shifts, 256)
    assert len(np.unique(expected)) == 256
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        for max_bytes in (1, 2**14, 2**17, 2**28):
            assert np.array_equal(evaluate(network, coordinates[:50], shifts, 256, max_bytes=max_bytes), expected[:, :50])
        assert np.array_equal(evaluate(network, coordinates, shifts, 256), expected)
    for patch in range(9):
        assert np.array_equal(evaluate(network, coordinates[patch::9], shifts[patch : patch + 1], 256)[0], expected[patch, patch::9])


GENERATION = """
import hashlib, numpy as np
from compresskit.codec.exact import IntegerLayer, IntegerNetwork, evaluate, grid
def layer(out, fan_in, fraction):
    weight = np.arange(out * fan_in).reshape(out, fan_in) * 7919 % 65521 - 32768
    return IntegerLayer(weight, np.arange(1, out + 1) * 4123456789, fraction)
network = IntegerNetwork((layer(64, 2, 14), layer(64, 64, 16), layer(64, 64, 16), layer(3, 64, 20)))
print(hashlib.sha256(evaluate(network, grid((40, 30)), None, 65536).astype("<i8").tobytes()).hexdigest())
"""


@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_every_processor_gives_the_same_samples(capability: str) -> None:
    """Torch chooses its code by the processor; these choices can be forced. The hash is that of every version to come."""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability, "MKL_CBWR": "COMPATIBLE"}
    done = subprocess.run([sys.executable, "-c", GENERATION], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "cfd1657ed7c12757370dda2481afd9259828d0d8197d2ab381b50d32b4458639"


def test_the_largest_sums_are_exact() -> None:
    """Every magnitude at its limit at once, where a float64 would lose the last bit first."""
    weight, bias = np.full((2, 3), WEIGHT_LIMIT - 1), np.full(2, OFFSET_LIMIT - 1)
    for sign in (1, -1):
        layers = (IntegerLayer(sign * weight, sign * bias, 1), IntegerLayer(sign * weight[:, :2], sign * bias, MAX_FRACTION))
        network, points = IntegerNetwork(layers), np.full((1, 3), UNIT)
        shifts = np.full((1, 1, 2), sign * (OFFSET_LIMIT - 1))
        assert evaluate(network, points, shifts, 2**16)[0, 0].tolist() == _slow(network, [UNIT] * 3, shifts[0].tolist(), 2**16)


def test_limits_leave_room_for_rounding() -> None:
    """The widest layer of the largest values stays below 2**51, where phases can be read from the bits of a float64."""
    assert MAX_WIDTH * (WEIGHT_LIMIT - 1) * UNIT + 2 * (OFFSET_LIMIT - 1) + 2 ** (MAX_FRACTION - 1) < 2**51


def test_the_sine_table_is_the_sine() -> None:
    exact = np.sin(2 * math.pi * np.arange(2**PHASE_BITS) / 2**PHASE_BITS) * UNIT
    assert np.array_equal(sine_table(), np.rint(exact))
    assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).min() > 1e-9
    assert hashlib.sha256(sine_table().astype("<i8").tobytes()).hexdigest() == "0fe8878add5b0100f74b3bd20f5102039bb63c26afe6e5cb79025913a3d34271"
    with pytest.raises(ValueError, match="read-only"):
        sine_table()[0] = 1


def _int(*shape: int) -> Integers:
    return np.zeros(shape, np.int64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": np.zeros((2, 3))}, "float64 weights and int64 biases: both must be int64"),
        ({"bias": np.zeros(2, np.int32)}, "int64 weights and int32 biases"),
        ({"weight": _int(2)}, r"shape \(2,\) with a bias of \(2,\)"),
        ({"bias": _int(3)}, r"shape \(2, 3\) with a bias of \(3,\)"),
        ({"weight": _int(2, 0)}, r"widths must agree, from 1 to 4096"),
        ({"weight": _int(2, MAX_WIDTH + 1)}, r"widths must agree, from 1 to 4096"),
        ({"fraction": 0}, "a layer of 0 fractional bits: there must be 1 to 32"),
        ({"fraction": MAX_FRACTION + 1}, "33 fractional bits"),
        ({"weight": np.full((2, 3), WEIGHT_LIMIT)}, "a weight of 8388608 is out of range: exact decoding needs magnitudes below 8388608"),
        ({"weight": np.full((2, 3), np.iinfo(np.int64).min)}, "a weight of -9223372036854775808 is out of range"),
        ({"bias": np.full(2, -OFFSET_LIMIT)}, "a bias of -562949953421312 is out of range"),
    ],
    ids=range(11),
)
def test_a_layer_that_could_break_exactness_is_refused(changes: dict[str, object], message: str) -> None:
    layer = IntegerLayer(_int(2, 3), _int(2), 1)
    with pytest.raises(InputError, match=message):
        dataclasses.replace(layer, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "shapes",
    [[(2, 3)], [(2, 3), (1, 3)], [(2, 3), (3, 2), (1, 3)], [(2, 2), (2, 3), (1, 2)]],
    ids=["no hidden layer", "output of another width", "widths differ", "inputs differ"],
)
def test_layers_that_do_not_fit_together_are_refused(shapes: list[tuple[int, int]]) -> None:
    layers = tuple(IntegerLayer(_int(*shape), _int(shape[0]), 1) for shape in shapes)
    with pytest.raises(InputError, match=r"there must be a hidden one|hidden layers must have one width"):
        IntegerNetwork(layers)


@pytest.mark.parametrize(
    ("coordinates", "shifts", "levels", "message"),
    [
        (_int(5, 2), None, 256, r"takes 3 coordinates a point, and gets them in the shape \(5, 2\)"),
        (_int(5, 3), _int(1, 2, 2), 256, r"takes 1 x 2 shifts a patch, and gets them in the shape \(1, 2, 2\)"),
        (_int(5, 3), _int(1, 2), 256, r"takes 1 x 2 shifts a patch"),
        (_int(5, 3), None, 0, "samples of 0 levels"),
        (_int(5, 3), None, 2**16 + 1, "samples of 65537 levels"),
        (np.full((5, 3), UNIT + 1), None, 256, "a coordinate of 16385 is out of range"),
        (_int(5, 3), np.full((1, 1, 2), OFFSET_LIMIT), 256, "a shift of 562949953421312 is out of range"),
    ],
    ids=range(7),
)
def test_arguments_that_do_not_fit_are_refused(coordinates: Integers, shifts: Integers | None, levels: int, message: str) -> None:
    network = IntegerNetwork((IntegerLayer(_int(2, 3), _int(2), 1), IntegerLayer(_int(1, 2), _int(1), 1)))
    with pytest.raises(InputError, match=message):
        evaluate(network, coordinates, shifts, levels)
