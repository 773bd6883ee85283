"""Groups name every slice that goes with a channel, and say what is left whole and why."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.pruning.groups import Prunable, Slices, find_groups
from compresskit.report import Skipped


def found(module: nn.Module, *shape: int) -> Prunable:
    return find_groups(graph_from_module(module.eval(), [TensorSpec("x", (None, *shape))], source="test"))


def slices(prunable: Prunable, group: int) -> dict[tuple[str, int], Slices]:
    return {(piece.parameter, piece.dim): piece for piece in prunable.groups[group].slices}


class Joined(nn.Module):
    """Two branches side by side, flattened over four positions into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm, self.head = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(5), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(torch.cat([self.a(x), self.b(x)], 1))).flatten(1))


def test_slices_say_where_each_channel_lies() -> None:
    prunable = found(Joined(), 3, 2, 2)
    assert [(group.name, group.size) for group in prunable.groups] == [("a", 2), ("b", 3)]
    pieces = slices(prunable, 1)
    assert {key: piece.role for key, piece in pieces.items()} == {
        ("b.weight", 0): "out",
        ("b.bias", 0): "bias",
        ("norm.weight", 0): "norm",
        ("norm.bias", 0): "norm",
        ("head.weight", 1): "in",
    }
    assert pieces["norm.weight", 0].positions.tolist() == [2, 3, 4]
    assert pieces["norm.weight", 0].channels.tolist() == [0, 1, 2]
    assert pieces["head.weight", 1].positions.tolist() == list(range(8, 20))
    assert pieces["head.weight", 1].channels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_slices_of_a_transposed_convolution_have_their_roles_turned() -> None:
    prunable = found(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 5, 2), nn.Conv2d(5, 2, 1)), 3, 4, 4)
    assert slices(prunable, 0)["1.weight", 0].role == "in"
    assert slices(prunable, 1)["1.weight", 1].role == "out"


@pytest.mark.parametrize("name", ["resnet8", "vit"])
def test_every_slice_counts_each_channel_it_covers(name: str) -> None:
    """Positions are distinct and inside their dimension, channels inside the group; classes belong to one group only."""
    prunable = found(build(name, width=0.25), 3, 32, 32)
    sizes = {key: tensor.shape for key, tensor in prunable.graph.module.named_parameters()}
    for group, classes in zip(prunable.groups, prunable.classes, strict=True):
        assert len(classes) == len(np.unique(classes)) == group.size
        covered = np.zeros(group.size, dtype=bool)
        for piece in group.slices:
            assert len(np.unique(piece.positions)) == len(piece.positions) == len(piece.channels)
            assert 0 <= piece.positions.min() <= piece.positions.max() < sizes[piece.parameter][piece.dim]
            covered[piece.channels] = True
            labels = prunable.coupling.tensors[piece.parameter][piece.dim]
            assert np.array_equal(classes[piece.channels], labels[piece.positions])  # type: ignore[index]
        assert covered.all()
    every = np.concatenate(prunable.classes)
    assert len(every) == len(np.unique(every))
    assert not set(every.tolist()) & set(prunable.coupling.pinned)


def test_a_residual_stage_is_one_group() -> None:
    prunable = found(build("resnet8", width=0.5), 3, 32, 32)
    stage = next(group for group in prunable.groups if group.name == "conv1")
    assert {piece.parameter for piece in stage.slices if piece.role == "out"} >= {"conv1.weight", "layer1.0.conv2.weight"}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.after, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.after(self.lstm(x)[0])))


def test_what_is_left_whole_is_named_with_its_reason() -> None:
    assert found(nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)), 4).skipped == (
        Skipped("0", "1 takes its mean and variance over these channels"),
        Skipped("2", "it is an output of the model"),
    )
    prunable = found(Recurrent(), 3, 4)
    assert [group.name for group in prunable.groups] == ["after"]
    assert Skipped("lstm", "lstm (lstm) has no rule for cutting") in prunable.skipped


def test_channels_that_hang_together_make_no_group() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1, groups=2), nn.Conv2d(2, 6, 1), nn.Flatten(), nn.Linear(24, 2))
    prunable = found(layers, 3, 2, 2)
    assert [group.name for group in prunable.groups] == ["0", "2"]
    assert Skipped("1", "all its channels hang together") in prunable.skipped


def test_position_embeddings_do_not_name_groups() -> None:
    prunable = found(build("vit", width=0.25), 3, 32, 32)
    reasons = {skipped.group: skipped.reason for skipped in prunable.skipped}
    assert "takes its mean and variance" in reasons["patch_embed.proj"]
    assert {group.name for group in prunable.groups} == {f"blocks.{index}.{layer}" for index in range(6) for layer in ("attn.qkv", "mlp.fc1")}
