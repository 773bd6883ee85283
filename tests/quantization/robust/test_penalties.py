from __future__ import annotations

import typing
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from torch import Tensor

from compresskit.quantization.plan import make_plan
from compresskit.quantization.prepare import prepare
from compresskit.quantization.robust.config import RobustMethod
from compresskit.quantization.robust.penalties import PENALTIES, Pass
from compresskit.quantization.robust.watch import Watched

Batch = tuple[Tensor, Tensor]
STEP = 2.0**-10  # of finite differences


def moved(watched: Watched, batch: Batch, by: float) -> float:
    """The loss once every weight, and every activation that is watched, has moved by `by` along the sign of its gradient."""
    run = watched.watch(*batch)
    weights, activations = run.gradients()
    signs = iter([gradient.sign() for gradient in activations])
    undo = [
        watch.register_forward_hook(lambda module, inputs, out: out + by * next(signs) if out.requires_grad else out)
        for watch in watched.modules()
        if hasattr(watch, "passed")
    ]
    with torch.no_grad():
        for weight, gradient in zip(run.weights, weights, strict=True):
            weight += by * gradient.sign()
        before = [weight.requires_grad_() for weight in run.weights]
    loss = watched.watch(*batch).loss.item()
    for hook in undo:
        hook.remove()
    with torch.no_grad():
        for weight, gradient in zip(before, weights, strict=True):
            weight -= by * gradient.sign()
    return loss


def test_every_penalty_can_be_asked_for() -> None:
    assert {*PENALTIES, "none"} == set(typing.get_args(RobustMethod))


def test_l1_is_how_fast_the_loss_rises_where_it_rises_fastest(smooth: Watched, batch: Batch) -> None:
    rise = (moved(smooth, batch, STEP) - moved(smooth, batch, -STEP)) / (2 * STEP)
    assert rise == pytest.approx(PENALTIES["l1"](smooth.watch(*batch)).item(), rel=0.02)


@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_of_a_penalty_are_those_of_finite_differences(name: str, smooth: Watched, batch: Batch) -> None:
    penalty = PENALTIES[name]
    run = smooth.watch(*batch)
    gradients = torch.autograd.grad(penalty(run), run.weights)
    direction = [torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) for weight in run.weights]
    values = []
    for by in (STEP, -2 * STEP):
        with torch.no_grad():
            for weight, part in zip(run.weights, direction, strict=True):
                weight += by * part
        values.append(penalty(smooth.watch(*batch)).item())
    expected = sum(float((gradient * part).sum()) for gradient, part in zip(gradients, direction, strict=True))
    assert (values[0] - values[1]) / (2 * STEP) == pytest.approx(expected, rel=0.02)


def test_l1_of_a_linear_model_is_in_closed_form(build: Callable[..., onnx.ModelProto]) -> None:
    rng = np.random.default_rng(0)
    weight, x, y = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 5), (7, 5), (7, 2)))
    model = build([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], {"w": weight}, shape=("N", 5))
    network = prepare(model, "m")
    run = Watched(network, make_plan(network)).watch(torch.from_numpy(x), torch.from_numpy(y))
    gradient = 2 / y.size * (x @ weight.T - y).T @ x
    assert PENALTIES["l1"](run).item() == pytest.approx(np.abs(gradient).sum(), rel=1e-5)
    assert PENALTIES["l2"](run).item() == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    assert not run.activations


@given(st.integers(0, 10**6), st.floats(1e-6, 1e-3))
def test_no_noise_of_a_linear_loss_beats_the_bound(seed: int, size: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    weight, slope = (torch.randn(40, generator=rng, dtype=torch.float64) for _ in range(2))
    bound = size * PENALTIES["l1"](Pass((weight.requires_grad_() * slope).sum(), (weight,), ()))
    noise = size * (2 * torch.rand(40, generator=rng, dtype=torch.float64) - 1)
    assert abs((noise * slope).sum()) <= bound
    assert (size * slope.sign() * slope).sum() == pytest.approx(bound.item())


def test_rounding_changes_the_loss_by_no_more_than_the_bound_and_curvature(watched: Watched, batch: Batch) -> None:
    run = watched.watch(*batch)
    bound = PENALTIES["l1"](Pass(run.loss, run.weights, ())).item()
    for step in (2.0**-12, 2.0**-14):
        with torch.no_grad():
            kept = [weight.clone() for weight in run.weights]
            for weight in run.weights:
                weight.copy_((weight / step).round() * step)
        change = abs(watched.watch(*batch).loss.item() - run.loss.item())
        with torch.no_grad():
            for weight, old in zip(run.weights, kept, strict=True):
                weight.copy_(old)
        assert change <= step / 2 * bound + 1e-6


def test_dq_vanishes_for_orthogonal_rows_and_grows_with_the_fourth_power() -> None:
    rows, _ = torch.linalg.qr(torch.randn(12, 4, generator=torch.Generator().manual_seed(0)))
    kernel = rows.T.reshape(4, 3, 2, 2)
    nothing = torch.zeros(())
    assert PENALTIES["dq"](Pass(nothing, (kernel,), ())).item() == pytest.approx(0, abs=1e-10)
    for factor in (0.5, 2.0, 3.0):
        assert PENALTIES["dq"](Pass(nothing, (factor * kernel,), ())).item() == pytest.approx(4 * (factor**2 - 1) ** 2, rel=1e-5)
