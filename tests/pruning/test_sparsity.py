"""Masks against definitions written as loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from compresskit.errors import TargetError
from compresskit.pruning.sparsity import apply_masks, find_masks, sparse_weights


class Mixed(nn.Module):
    """All kinds of weights: (8, 3, 3), (8, 4, 3) in two groups, transposed (8, 6, 2), and linear (5, 24) twice the same."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv, self.grouped = nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(8, 8, 3, padding=1, groups=2)
            self.norm, self.up = nn.BatchNorm1d(8), nn.ConvTranspose1d(8, 6, 2, stride=2)
            self.head, self.again = nn.Linear(24, 5), nn.Linear(24, 5)
        self.again.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.norm(self.grouped(self.conv(x)))).flatten(1)
        return self.head(x) + self.again(x)


def mixed(seed: int = 0) -> fx.GraphModule:
    return fx.symbolic_trace(Mixed(seed))


def test_weights_of_layers_may_become_sparse_biases_and_norms_not() -> None:
    assert {name: tuple(weight.shape) for name, weight in sparse_weights(mixed()).items()} == {
        "conv.weight": (8, 3, 3),
        "grouped.weight": (8, 4, 3),
        "up.weight": (8, 6, 2),
        "head.weight": (5, 24),
    }


@given(st.floats(0.001, 0.999), st.integers(0, 1000))
@settings(max_examples=30)
def test_unstructured_zeros_are_exactly_the_smallest_weights(sparsity: float, seed: int) -> None:
    module = mixed(seed)
    values = sorted(abs(value) for weight in sparse_weights(module).values() for value in weight.flatten().tolist())
    removed = round(sparsity * len(values))
    masks = find_masks(module, sparsity, "unstructured")
    gone = [abs(value) for name, weight in sparse_weights(module).items() for value in weight[~masks[name]].tolist()]
    assert sorted(gone) == values[:removed]


@given(st.sampled_from(["1:2", "2:4", "1:4", "3:4", "4:8", "2:3"]), st.integers(0, 1000))
@settings(max_examples=30)
def test_a_pattern_keeps_the_largest_of_each_block_of_inputs(pattern: str, seed: int) -> None:
    module = mixed(seed)
    kept, size = map(int, pattern.split(":"))
    masks = find_masks(module, 1 - kept / size, pattern)
    inputs = {"conv.weight": 1, "grouped.weight": 1, "up.weight": 0, "head.weight": 1}
    assert set(masks) == {name for name, weight in sparse_weights(module).items() if weight.shape[inputs[name]] % size == 0}
    for name, mask in masks.items():
        rows = np.moveaxis(sparse_weights(module)[name].detach().abs().numpy(), inputs[name], -1)
        flags = np.moveaxis(mask.numpy(), inputs[name], -1)
        for index in itertools.product(*map(range, rows.shape[:-1])):
            for start in range(0, rows.shape[-1], size):
                block, stays = rows[index][start : start + size], flags[index][start : start + size]
                assert set(np.flatnonzero(stays)) == set(np.argsort(-block, kind="stable")[:kept])


def test_masks_set_zeros_and_nothing_else() -> None:
    module = mixed()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    masks = find_masks(module, 0.7, "unstructured")
    apply_masks(module, masks)
    for name, tensor in module.state_dict().items():
        mask = masks.get(name.replace("again.weight", "head.weight"))
        expected = before[name] if mask is None else torch.where(mask, before[name], torch.zeros(()))
        assert torch.equal(tensor, expected), name


def test_zeros_of_before_are_the_first_to_count() -> None:
    module = mixed()
    apply_masks(module, find_masks(module, 0.3, "unstructured"))
    weights = {name: weight.clone() for name, weight in sparse_weights(module).items()}
    apply_masks(module, find_masks(module, 0.2, "unstructured"))
    assert all(torch.equal(weight, weights[name]) for name, weight in sparse_weights(module).items())


def test_nothing_to_make_sparse_is_an_error() -> None:
    with pytest.raises(TargetError, match="no convolution and no linear layer"):
        find_masks(fx.symbolic_trace(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3))), 0.5, "unstructured")
    with pytest.raises(TargetError, match=r"no layer can take pattern 2:4: none has a multiple of 4 inputs"):
        find_masks(fx.symbolic_trace(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))), 0.5, "2:4")
