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
    evaluate_outputs,
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


@st.composite
def _output_cases(draw: st.DrawFn) -> tuple[IntegerNetwork, Integers, Integers, int]:
    """A network with points, output layers and levels for it."""
    network, coordinates, _, levels = draw(_cases())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight_limit, bias_limit = draw(st.sampled_from([(WEIGHT_LIMIT, OFFSET_LIMIT), (2**15, 2 ** (network.layers[-1].fraction + ACTIVATION_BITS))]))
    shape = (draw(st.integers(0, 4)), network.channels)
    weights, biases = rng.integers(1 - weight_limit, weight_limit, (*shape, network.width)), rng.integers(1 - bias_limit, bias_limit, (*shape, 1))
    return network, coordinates, np.concatenate([weights, biases], axis=2), levels


def _with_output(network: IntegerNetwork, output: Integers) -> IntegerNetwork:
    """`network` with another output layer (channels, width + 1)."""
    return IntegerNetwork((*network.layers[:-1], IntegerLayer(output[:, :-1].copy(), output[:, -1].copy(), network.layers[-1].fraction)))


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


@given(_output_cases())
def test_output_layers_equal_unbounded_integers_and_networks_that_have_them(case: tuple[IntegerNetwork, Integers, Integers, int]) -> None:
    network, coordinates, outputs, levels = case
    found, unshifted = evaluate_outputs(network, coordinates, outputs, levels), [[0] * network.width] * network.hidden
    assert found.dtype == np.int64
    assert found.shape == (len(outputs), len(coordinates), network.channels)
    for patch, output in zip(found, outputs, strict=True):
        own = _with_output(network, output)
        assert patch.tolist() == [_slow(own, point, unshifted, levels) for point in coordinates.tolist()]
        assert np.array_equal(patch, evaluate(own, coordinates, None, levels)[0])


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


@pytest.mark.usefixtures("threads")
def test_threads_and_batches_do_not_matter_to_output_layers() -> None:
    rng = np.random.default_rng(0)
    network, coordinates = _random_network(rng, width=48, depth=3), rng.integers(-UNIT, UNIT + 1, (700, 2))
    outputs = np.concatenate([rng.integers(-(2**15), 2**15, (90, 3, 48)), rng.integers(-(2**30), 2**30, (90, 3, 1))], axis=2)
    torch.set_num_threads(1)
    expected = evaluate_outputs(network, coordinates, outputs, 256)
    assert len(np.unique(expected)) == 256
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        assert np.array_equal(evaluate_outputs(network, coordinates, outputs, 256), expected)
        assert np.array_equal(evaluate_outputs(network, coordinates[5:17], outputs[::7], 256), expected[::7, 5:17])


GENERATION = """
import hashlib, numpy as np
from compresskit.codec.exact import IntegerLayer, IntegerNetwork, evaluate, evaluate_outputs, grid
def layer(out, fan_in, fraction):
    weight = np.arange(out * fan_in).reshape(out, fan_in) * 7919 % 65521 - 32768
    return IntegerLayer(weight, np.arange(1, out + 1) * 4123456789, fraction)
network = IntegerNetwork((layer(64, 2, 14), layer(64, 64, 16), layer(64, 64, 16), layer(3, 64, 20)))
outputs = np.arange(20 * 3 * 65).reshape(20, 3, 65) * 104729 % 8388593 - 4194304
for found in (evaluate(network, grid((40, 30)), None, 65536), evaluate_outputs(network, grid((40, 30)), outputs, 65536)):
    print(hashlib.sha256(found.astype("<i8").tobytes()).hexdigest())
"""
HASHES = ["cfd1657ed7c12757370dda2481afd9259828d0d8197d2ab381b50d32b4458639", "276e2e7ff68ce995ff6fd25e14376a3e61e4ab5e122a0acd06bf749101724634"]


@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_every_processor_gives_the_same_samples(capability: str) -> None:
    """Torch chooses its code by the processor; these choices can be forced. The hashes are those of every version to come."""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability, "MKL_CBWR": "COMPATIBLE"}
    done = subprocess.run([sys.executable, "-c", GENERATION], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == HASHES


def test_the_largest_sums_are_exact() -> None:
    """Every magnitude at its limit at once, where a float64 would lose the last bit first."""
    weight, bias = np.full((2, 3), WEIGHT_LIMIT - 1), np.full(2, OFFSET_LIMIT - 1)
    for sign in (1, -1):
        layers = (IntegerLayer(sign * weight, sign * bias, 1), IntegerLayer(sign * weight[:, :2], sign * bias, MAX_FRACTION))
        network, points = IntegerNetwork(layers), np.full((1, 3), UNIT)
        shifts = np.full((1, 1, 2), sign * (OFFSET_LIMIT - 1))
        assert evaluate(network, points, shifts, 2**16)[0, 0].tolist() == _slow(network, [UNIT] * 3, shifts[0].tolist(), 2**16)


def test_the_largest_sums_of_output_layers_are_exact() -> None:
    """Likewise: the hidden layer's phase is that of the largest sine."""
    width, quarter = MAX_WIDTH, 2 ** (PHASE_BITS - 2)
    hidden = IntegerLayer(np.zeros((width, 1), np.int64), np.full(width, quarter * 2 ** (1 + ACTIVATION_BITS - PHASE_BITS)), 1)
    for fraction in (1, 22, MAX_FRACTION):
        network = IntegerNetwork((hidden, IntegerLayer(np.zeros((2, width), np.int64), np.zeros(2, np.int64), fraction)))
        outputs = np.concatenate([np.full((1, 2, width), WEIGHT_LIMIT - 1), np.full((1, 2, 1), 1 - OFFSET_LIMIT)], axis=2)
        outputs[:, 1, :width:2] -= 1
        expected = _slow(_with_output(network, outputs[0]), [0], [[0] * width], 2**16)
        assert evaluate_outputs(network, np.zeros((1, 1), np.int64), outputs, 2**16)[0, 0].tolist() == expected


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


@pytest.mark.parametrize(
    ("coordinates", "outputs", "levels", "message"),
    [
        (_int(5, 2), _int(1, 1, 3), 256, r"takes 3 coordinates a point, and gets them in the shape \(5, 2\)"),
        (_int(5, 3), _int(1, 1, 2), 256, r"takes 1 x 2 weights and biases a patch, and gets them in \(1, 1, 2\)"),
        (_int(5, 3), _int(1, 3), 256, r"takes 1 x 2 weights and biases a patch"),
        (_int(5, 3), _int(1, 1, 3), 0, "samples of 0 levels"),
        (np.full((5, 3), UNIT + 1), _int(1, 1, 3), 256, "a coordinate of 16385 is out of range"),
        (_int(5, 3), np.array([[[0, WEIGHT_LIMIT, 0]]]), 256, "a weight of 8388608 is out of range"),
        (_int(5, 3), np.array([[[0, 0, -OFFSET_LIMIT]]]), 256, "a bias of -562949953421312 is out of range"),
    ],
    ids=range(7),
)
def test_output_layers_that_do_not_fit_are_refused(coordinates: Integers, outputs: Integers, levels: int, message: str) -> None:
    network = IntegerNetwork((IntegerLayer(_int(2, 3), _int(2), 1), IntegerLayer(_int(1, 2), _int(1), 1)))
    with pytest.raises(InputError, match=message):
        evaluate_outputs(network, coordinates, outputs, levels)
