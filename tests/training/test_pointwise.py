"""Strided 1x1 convolutions compute the same by picking positions first, and are themselves again afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compresskit.training.pointwise import unit_strides


@pytest.mark.parametrize("stride", [2, (2, 1), (1, 3)])
def test_values_and_gradients_are_the_same(stride: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, 1, stride=stride)
    x = torch.randn(3, 5, 9, 8)
    wanted = conv(x)
    (gradient,) = torch.autograd.grad(wanted.square().sum(), conv.weight)
    with unit_strides(nn.Sequential(conv)):
        got = conv(x)
        (other,) = torch.autograd.grad(got.square().sum(), conv.weight)
        assert conv.stride == (1, 1)
    assert torch.allclose(got, wanted, atol=1e-6)
    assert torch.allclose(other, gradient, rtol=1e-5, atol=1e-5)
    assert torch.equal(conv(x), wanted)


def test_the_stride_comes_back_after_an_error() -> None:
    conv = nn.Conv2d(5, 7, 1, stride=2)
    with pytest.raises(KeyboardInterrupt), unit_strides(conv):
        raise KeyboardInterrupt
    assert conv.stride == (2, 2)
    assert not conv._forward_pre_hooks


def test_other_convolutions_are_left_alone() -> None:
    convs = nn.ModuleList([nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, stride=2, padding=1)])
    with unit_strides(convs):
        assert [conv.stride for conv in convs] == [(2, 2), (1, 1), (2, 2)]
