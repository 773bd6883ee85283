"""Building blocks open the parts of a model that they name, of every layout of attention, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresskit.errors import UsageError
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.latency_operators import uses
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.parity import check_parity
from compresskit.pruning.blocks import BLOCKS, check_blocks, open_blocks
from compresskit.pruning.config import BLOCK_NAMES, PruneConfig, Target
from compresskit.pruning.cut import widths
from compresskit.pruning.engine import prune
from compresskit.pruning.groups import find_groups

pytestmark = pytest.mark.usefixtures("one_thread")


class _Attention(nn.Module):
    """Attention as exporters write it, over 5 tokens of width 12: products of matrices, in heads, and an MLP behind it."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(12, 12) for _ in range(4))
        self.norm, self.up, self.down = nn.LayerNorm(12), nn.Linear(12, 20), nn.Linear(20, 12)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        weights = torch.softmax(query @ key.transpose(-1, -2) * 0.5, dim=-1)
        mixed = weights @ value
        x = self.norm(x + self.output(mixed if self.heads == 1 else mixed.transpose(1, 2).flatten(2)))
        return x + self.down(torch.relu(self.up(x)))

    def _split(self, x: Tensor) -> Tensor:
        return x if self.heads == 1 else x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _lifted(net: nn.Module, *shape: int) -> ModelGraph:
    torch.manual_seed(0)
    return graph_from_module(net, [TensorSpec("x", (None, *shape))], source="net")


def _names(graph: ModelGraph, *blocks: str) -> set[str]:
    return {group.name for group in open_blocks(graph, blocks).groups}


def test_the_names_that_users_may_say_are_those_registered() -> None:
    assert set(BLOCK_NAMES) == set(BLOCKS)
    assert all(block.summary for block in BLOCKS.values())


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_a_transformer_consists_of_heads_and_mlps(name: str) -> None:
    graph = load_model(name)
    heads, ffn = _names(graph, "heads"), _names(graph, "ffn")
    assert heads
    assert ffn
    assert not heads & ffn
    assert heads | ffn == _names(graph, "heads", "ffn") == _names(graph, "channels") == {group.name for group in find_groups(graph).groups}
    assert all("att" in group for group in heads)
    assert all("fc" in group for group in ffn)


@pytest.mark.parametrize(("heads", "opened"), [(3, {"query": 3}), (1, {"query": 12, "value": 12})])
def test_attention_written_as_products_is_found(heads: int, opened: dict[str, int]) -> None:
    """Several heads are cut whole; of a single one, the width in which queries meet keys, and that of the values."""
    graph = _lifted(_Attention(heads), 5, 12)
    assert {group.name: group.size for group in open_blocks(graph, ("heads",)).groups} == opened
    assert _names(graph, "ffn") == {"up"}


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_all_heads_become_narrower_alike_once_and_again(name: str) -> None:
    """The second cut finds scales that the first has written out."""
    graph = load_model(name)
    for _ in range(2):
        result = prune(graph, None, PruneConfig(target=Target("flops", 0.9), blocks=("head-width",), floor=0.0, round_to=1))
        before, after = (_attentions(model) for model in (graph, result.graph))
        assert result.met
        assert [heads for heads, _ in after] == [heads for heads, _ in before]
        assert all(new < old for (_, new), (_, old) in zip(after, before, strict=True))
        assert check_parity(result.graph, export_onnx(result.graph).SerializeToString()).max_abs_error < 1e-4
        graph = result.graph


def _attentions(graph: ModelGraph) -> list[tuple[int, int]]:
    """Heads of every attention, and their width."""
    return [(use.operator.shape[1], use.inputs) for use in uses(graph) if use.operator.kind == "attention"]


def test_heads_survive_a_file() -> None:
    graph = load_model(export_onnx(load_model("bert")).SerializeToString())
    assert len(_names(graph, "heads")) == 2
    assert len(_names(graph, "ffn")) == 3


@pytest.mark.parametrize("block", ["heads", "ffn"])
def test_only_what_a_block_opens_is_cut(block: str) -> None:
    graph = load_model("vit")
    result = prune(graph, None, PruneConfig(target=Target("flops", 0.85), blocks=(block,), floor=0.0, round_to=1))  # type: ignore[arg-type]
    before, after = widths(graph.module), widths(result.graph.module)
    changed = {name for name in before if before[name] != after[name]}
    assert changed
    assert all(("attn" in name) == (block == "heads") for name in changed)
    reasons = {skip.group: skip.reason for skip in result.skipped}
    left = _names(graph, "channels") - _names(graph, block)
    assert {name for name, reason in reasons.items() if reason == f"it is not among --blocks {block}"} == left
    assert total(result.graph).macs == pytest.approx(0.85 * total(graph).macs, rel=0.05)


@pytest.mark.parametrize("block", ["heads", "ffn"])
def test_a_block_that_a_model_does_not_have_is_refused(small_net: ModelGraph, block: str) -> None:
    with pytest.raises(UsageError, match=f"^--blocks {block}: small has none; it has channels, lowrank$"):
        check_blocks(small_net, ("channels", block))
    with pytest.raises(UsageError, match=f"--blocks {block}"):
        prune(small_net, None, PruneConfig(target=Target("flops", 0.5), blocks=(block,)))  # type: ignore[arg-type]


def test_a_model_without_layers_has_no_block_at_all() -> None:
    with pytest.raises(UsageError, match=r"^--blocks lowrank: net has none; it has no block at all$"):
        check_blocks(_lifted(nn.ReLU(), 3), ("lowrank",))


class _Layers(nn.Module):
    """One layer of each kind that low rank meets."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.grouped, self.up = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.ConvTranspose2d(8, 6, 2)
        self.thin, self.twice, self.head, self.tail = nn.Conv2d(6, 1, 1), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.tail.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.thin(self.up(self.grouped(self.plain(x)))).flatten(1)
        return self.tail(self.head(self.twice(self.twice(x))))


def test_low_rank_opens_plain_layers_and_says_why_not_the_others() -> None:
    prunable = open_blocks(_lifted(_Layers(), 4, 3, 3), ("lowrank",))
    assert {layer: len(labels) for layer, labels in prunable.ranks.items()} == {"plain": 8}
    assert [(group.name, group.size, group.slices) for group in prunable.groups] == [("rank of plain", 8, ())]
    assert prunable.channels == ()
    assert np.array_equal(prunable.classes[0], prunable.ranks["plain"])
    reasons = {skip.group: skip.reason for skip in prunable.skipped if "factor" in skip.reason}
    assert reasons == {
        "grouped": "a grouped convolution is not factorized",
        "up": "a transposed convolution is not factorized",
        "thin": "its factors cost no less at any rank",
    }
    assert [skip.reason for skip in prunable.skipped].count("its weights are used more than once") == 3
