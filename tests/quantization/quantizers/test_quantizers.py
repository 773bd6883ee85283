"""Simulated quantization against the slow reference of `grid`, and its gradients against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compresskit.errors import UsageError
from compresskit.quantization.grid import SMALLEST_SCALE, Grid, asymmetric, symmetric
from compresskit.quantization.quantizers import QUANTIZERS, FakeQuant
from compresskit.quantization.quantizers.dorefa import Squashed
from compresskit.quantization.quantizers.lsq import FRACTIONS, LearnedStep, fitted
from compresskit.quantization.quantizers.uniform import Observer

METHODS = tuple(QUANTIZERS)
BITS = st.integers(2, 16)
NUMBERS = st.floats(-100, 100, width=32)
VALUES = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3)), elements=NUMBERS)


@st.composite
def grids(draw: st.DrawFn, shape: tuple[int, ...]) -> Grid:
    """Any grid for tensors of `shape`: symmetric or not, for the tensor or a slice."""
    bits, axis = draw(BITS), draw(st.sampled_from([None, *range(len(shape))]))
    if draw(st.booleans()):
        return symmetric(draw(arrays(np.float32, shape, elements=NUMBERS)), bits, axis=axis)
    ends = st.tuples(NUMBERS, NUMBERS)
    slices = [asymmetric(min(pair), max(pair), bits) for pair in draw(st.lists(ends, min_size=1, max_size=1 if axis is None else shape[axis]))]
    if axis is None:
        return slices[0]
    slices = [slices[index % len(slices)] for index in range(shape[axis])]
    return Grid(np.stack([one.scale for one in slices]), np.stack([one.zero for one in slices]), slices[0].low, slices[0].high, axis)


def _modules(method: str, grid: Grid, x: np.ndarray) -> list[FakeQuant]:
    return [QUANTIZERS[method].weight(grid, torch.from_numpy(x)), QUANTIZERS[method].activation(grid)]


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data(), x=VALUES)
def test_the_simulation_is_the_round_trip_to_the_bit(method: str, data: st.DataObject, x: np.ndarray) -> None:
    for module in _modules(method, data.draw(grids(x.shape)), x):
        for training in (True, False):
            carried = module.carried(torch.from_numpy(x)).detach().numpy()
            assert np.array_equal(module.train(training)(torch.from_numpy(x)).detach().numpy(), module.grid().round_trip(carried))
            assert np.array_equal(module(torch.zeros(x.shape)).detach().numpy(), np.zeros(x.shape))


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data(), x=VALUES)
def test_a_method_starts_from_the_grid_and_the_weights_that_it_is_given(method: str, data: st.DataObject, x: np.ndarray) -> None:
    grid = data.draw(grids(x.shape))
    for module in _modules(method, grid, x):
        found = module.grid()
        assert np.all(found.scale <= grid.scale) if method == "lsq" else np.array_equal(found.scale, grid.scale)
        assert np.array_equal(found.zero, grid.zero)
        assert (found.low, found.high, found.axis) == (grid.low, grid.high, grid.axis)
        assert torch.allclose(
            module.carried(module.start(torch.from_numpy(x))), torch.from_numpy(x), rtol=1e-3, atol=1e-4 * float(np.abs(x).max()) + 1e-25
        )


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data(), x=VALUES)
def test_gradients_pass_straight_through_where_nothing_is_clipped(method: str, data: st.DataObject, x: np.ndarray) -> None:
    module = QUANTIZERS[method].activation(data.draw(grids(x.shape)))
    given = torch.from_numpy(x).requires_grad_()
    above = torch.from_numpy(np.random.default_rng(0).standard_normal(x.shape).astype(np.float32))
    (module(given) * above).sum().backward()
    grid = module.grid()
    scale, zero = grid._spread(grid.scale, x.ndim), grid._spread(grid.zero, x.ndim)
    steps = x / scale + (0 if method == "lsq" else zero)
    within = (steps > grid.low - zero) & (steps < grid.high - zero) if method == "lsq" else (np.rint(x / scale) + zero == grid.quantize(x))
    assert given.grad is not None
    assert np.array_equal(given.grad.numpy(), np.where(within, above, 0))


@given(data=st.data(), x=VALUES, batched=st.booleans())
def test_the_gradient_of_a_learned_step_is_the_papers(data: st.DataObject, x: np.ndarray, batched: bool) -> None:
    """Equation 3 of Esser et al. 2020, one number at a time."""
    grid = data.draw(grids(x.shape))
    module = LearnedStep(grid, batched=batched)
    above = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    (module(torch.from_numpy(x)) * torch.from_numpy(above)).sum().backward()
    want = np.zeros(grid.scale.shape, np.float64)
    for index in np.ndindex(x.shape):
        channel = () if grid.axis is None else (index[grid.axis],)
        least, most = grid.low - int(grid.zero[channel]), grid.high - int(grid.zero[channel])
        v = float(x[index] / grid.scale[channel])
        want[channel] += above[index] * (least if v <= least else most if v >= most else round(v) - v)
    shared = x.size / grid.scale.size / (len(x) if batched else 1)
    want /= np.sqrt(shared * grid.high)
    assert module.scale.grad is not None
    most = float(np.abs(grid.low - grid.zero).max() + grid.high)
    assert np.allclose(module.scale.grad.numpy(), want, rtol=1e-4, atol=1e-5 * most)


def test_a_learned_step_minds_no_memory_format() -> None:
    x, above = torch.randn(2, 2, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for values in (x, x.contiguous(memory_format=torch.channels_last)):
        module = LearnedStep(Grid(np.float32(0.3), np.int32(0), -3, 3), batched=True)
        (module(values) * above).sum().backward()
        found.append(float(module.scale.grad))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@given(data=st.data(), x=VALUES)
def test_learned_steps_start_where_they_change_the_weights_least(data: st.DataObject, x: np.ndarray) -> None:
    grid = data.draw(grids(x.shape))
    scale = fitted(grid, torch.from_numpy(x)).scale
    for index in np.ndindex(scale.shape):
        part = x if grid.axis is None else np.take(x, index[0], grid.axis)
        errors = []
        for fraction in FRACTIONS:
            tried = max(float(grid.scale[index] * np.float32(fraction)), SMALLEST_SCALE)
            errors.append(((Grid(np.float32(tried), grid.zero[index], grid.low, grid.high).round_trip(part) - part) ** 2).sum())
        found = ((Grid(scale[index], grid.zero[index], grid.low, grid.high).round_trip(part) - part) ** 2).sum()
        assert found <= min(errors) * 1.001 + 1e-30


def test_steps_stay_above_zero_whatever_training_makes_of_them() -> None:
    module = LearnedStep(asymmetric(0, 1, 4), batched=True)
    for step in (0.0, -0.5):
        with torch.no_grad():
            module.scale.fill_(step)
        assert module.grid().scale > 0
        assert torch.isfinite(module(torch.ones(2, 3))).all()


@given(x=VALUES, bits=BITS)
def test_observed_weights_have_the_grid_that_ptq_gives_them(x: np.ndarray, bits: int) -> None:
    for axis in (None, 0, 1):
        module = QUANTIZERS["uniform"].weight(symmetric(np.ones_like(x), bits, axis=axis), torch.ones(x.shape))
        module.train()(torch.from_numpy(x))
        assert np.array_equal(module.grid().scale, symmetric(x, bits, axis=axis).scale)


@given(batches=st.lists(VALUES, min_size=1, max_size=4), bits=BITS, momentum=st.sampled_from([0.05, 1.0]))
def test_observed_activations_have_the_grid_of_their_average_range(batches: list[np.ndarray], bits: int, momentum: float) -> None:
    module, (low, high) = Observer(asymmetric(0, 0, bits), momentum), (0.0, 1.0)
    for x in batches:
        module.train()(torch.from_numpy(x))
        low = (1 - momentum) * low + momentum * min(float(x.min()), 0)
        high = (1 - momentum) * high + momentum * max(float(x.max()), 0)
    want = asymmetric(low, high, bits)
    found = module.grid()
    assert np.allclose(found.scale, want.scale, rtol=1e-5)
    assert abs(int(found.zero) - int(want.zero)) <= 1


def test_observers_stand_still_out_of_training_and_when_they_are_told_to() -> None:
    module = Observer(asymmetric(0, 1, 8), 1.0)
    before = module.grid().scale
    module.eval()(torch.full((2, 2), 9.0))
    assert np.array_equal(module.grid().scale, before)
    module.watching.fill_(False)
    module.train()(torch.full((2, 2), 9.0))
    assert np.array_equal(module.grid().scale, before)
    assert {"reach", "watching", "scale", "zero"} <= set(module.state_dict())


@given(x=arrays(np.float64, (3, 4), elements=st.floats(-3, 3).filter(lambda value: abs(value) > 0.05), unique=True))
def test_the_gradient_of_squashed_weights_is_that_of_their_formula(x: np.ndarray) -> None:
    module = Squashed(symmetric(x.astype(np.float32), 16, axis=0), torch.from_numpy(x)).double()
    assert torch.autograd.gradcheck(module.carried, (torch.from_numpy(x).requires_grad_(),), eps=1e-7, atol=1e-4)
    largest = module.carried(torch.from_numpy(x)).abs().amax(1)
    assert torch.allclose(largest, torch.from_numpy(np.abs(x).max(1)))


def test_unknown_methods_are_answered_with_a_list() -> None:
    with pytest.raises(UsageError, match="unknown quantizer 'lqs': did you mean 'lsq'"):
        QUANTIZERS["lqs"]
