"""What happens on edges has the gradients that finite differences find, and does not hang on how it is cut up."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.metaprune import pna_blocks
from compresskit.metaprune.pna_blocks import Moments, Update

SHAPES = st.tuples(*(st.integers(1, 3) for _ in range(4)))


def _numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@settings(max_examples=20)
@given(SHAPES, st.integers(1, 40))
def test_gradients_are_those_of_finite_differences(shape: tuple[int, ...], at_hand: int) -> None:
    width, groups, outs, ins = shape
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pna_blocks, "AT_HAND", at_hand)
        edges = _numbers(*shape)
        assert torch.autograd.gradcheck(Moments.apply, (edges, _numbers(width, groups, ins), _numbers(width, groups, outs)))
        assert torch.autograd.gradcheck(Update.apply, (edges, _numbers(width, groups, outs, 2), _numbers(width, groups, 2, ins)))


def test_equal_extremes_share_their_gradient() -> None:
    edges = torch.zeros(1, 1, 1, 4, requires_grad=True)
    highest = Moments.apply(edges, torch.ones(1, 1, 4), torch.ones(1, 1, 1))[2]
    highest.sum().backward()
    torch.testing.assert_close(edges.grad, torch.full((1, 1, 1, 4), 0.25))
