from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.exact import ACTIVATION_BITS, evaluate, grid
from compresskit.codec.siren import Siren, forward, from_integer, init, to_integer
from compresskit.errors import GuardError


def _siren(dims: int = 2, width: int = 32, depth: int = 3, channels: int = 3, omega: float = 30.0, seed: int = 0) -> Siren:
    return init(dims, width, depth, channels, omega, torch.Generator().manual_seed(seed))


def test_forward_is_equation_5_2() -> None:
    siren = _siren(depth=2)
    x = torch.rand(5, 2)
    hidden = x
    for weight, bias in zip(siren.weights[:-1], siren.biases[:-1], strict=True):
        hidden = torch.sin(30.0 * (hidden @ weight.T + bias))
    torch.testing.assert_close(forward(siren, x), hidden @ siren.weights[-1].T + siren.biases[-1] + 0.5)


def test_shifts_are_added_to_the_biases() -> None:
    siren, x = _siren(), torch.rand(7, 2)
    shifts = tuple(torch.randn(4, 1, 32) / 10 for _ in range(3))
    shifted = forward(siren, x, shifts)
    assert shifted.shape == (4, 7, 3)
    for patch in range(4):
        biases = (*(bias + shift[patch, 0] for bias, shift in zip(siren.biases[:-1], shifts, strict=True)), siren.biases[-1])
        torch.testing.assert_close(shifted[patch], forward(Siren(siren.weights, biases, siren.omega), x))


@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 4), st.integers(1, 4), st.floats(1, 60))
def test_initial_weights_lie_within_their_bounds(dims: int, width: int, depth: int, channels: int, omega: float) -> None:
    siren = _siren(dims, width, depth, channels, omega)
    assert [tuple(weight.shape) for weight in siren.weights] == [(width, dims), *[(width, width)] * (depth - 1), (channels, width)]
    assert [tuple(bias.shape) for bias in siren.biases] == [*[(width,)] * depth, (channels,)]
    assert siren.weights[0].abs().max() <= 1 / dims
    assert all(weight.abs().max() <= math.sqrt(6 / width) / omega for weight in siren.weights[1:])


def test_one_seed_gives_one_network() -> None:
    assert all(torch.equal(a, b) for a, b in zip(_siren(seed=1).weights, _siren(seed=1).weights, strict=True))
    assert not torch.equal(_siren(seed=1).weights[0], _siren(seed=2).weights[0])


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 100))
def test_integers_compute_what_floats_do(width: int, depth: int, seed: int) -> None:
    siren = _siren(width=width, depth=depth, seed=seed)
    coordinates = grid((9, 9))
    found = evaluate(to_integer(siren), coordinates, None, 2**16)[0] / (2**16 - 1)
    expected = forward(siren, torch.from_numpy(coordinates / 2**ACTIVATION_BITS).float()).clamp(0, 1)
    assert np.abs(found - expected.numpy()).max() < 0.01


@given(st.integers(8, 20), st.integers(0, 100), st.floats(-20, 20))
def test_weights_use_the_range_of_their_bits(bits: int, seed: int, exponent: float) -> None:
    siren = _siren(depth=2, seed=seed)
    scaled = Siren(tuple(weight * 2 ** (exponent / 5) for weight in siren.weights), siren.biases, siren.omega)
    for layer in to_integer(scaled, bits).layers:
        assert 2 ** (bits - 2) <= np.abs(layer.weight).max() + 1 <= 2 ** (bits - 1)


def test_weights_of_zero_are_a_network_too() -> None:
    siren = _siren()
    constant = Siren(tuple(torch.zeros_like(weight) for weight in siren.weights), tuple(torch.zeros_like(bias) for bias in siren.biases), 30.0)
    assert (evaluate(to_integer(constant), grid((4, 4)), None, 256) == 128).all()


@given(st.integers(0, 1000), st.integers(8, 16))
def test_a_network_survives_the_way_through_floats(seed: int, bits: int) -> None:
    network = to_integer(_siren(seed=seed), bits)
    again = to_integer(from_integer(network, 30.0), bits)
    for layer, other in zip(network.layers, again.layers, strict=True):
        assert layer.fraction == other.fraction
        assert np.array_equal(layer.weight, other.weight)
        assert np.abs(layer.bias - other.bias).max() <= np.abs(layer.bias).max() * 2.0**-22 + 2.0 ** (layer.fraction + ACTIVATION_BITS - 23)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e30])
@pytest.mark.parametrize("part", ["weights", "biases"])
def test_a_diverged_network_is_refused(value: float, part: str) -> None:
    siren = _siren()
    getattr(siren, part)[1][0] = value
    with pytest.raises(GuardError, match="not finite, or too large: training diverged; lower the learning rate"):
        to_integer(siren)
