"""How module leaves enter the graph: weights as edges, norms and biases as features of nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn

from compresskit.metaprune.graph_draft import Attached, Ids, Layer
from compresskit.metaprune.graph_norms import PARTS, norm
from compresskit.metaprune.graph_walk import Walk
from compresskit.models.leaves import BatchNorm

LEAVES: dict[type[nn.Module], Callable[[Walk, fx.Node], Tensor]] = {}


def _leaf(*kinds: type[nn.Module]) -> Callable[[Callable[[Walk, fx.Node], Tensor]], Callable[[Walk, fx.Node], Tensor]]:
    def file_under(function: Callable[[Walk, fx.Node], Tensor]) -> Callable[[Walk, fx.Node], Tensor]:
        LEAVES.update(dict.fromkeys(kinds, function))
        return function

    return file_under


@_leaf(nn.Linear)
def linear(walk: Walk, node: fx.Node) -> Tensor:
    """(..., in) to (..., out)."""
    module: Any = walk.leaf(node)
    outs, ins = module.weight.shape
    return _layer(walk, node, -1, (1, outs, ins, 1), outs)


@_leaf(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(walk: Walk, node: fx.Node) -> Tensor:
    """(batch, in, *space) to (batch, out, *space)."""
    module: Any = walk.leaf(node)
    groups, taps = module.groups, module.weight[0, 0].numel()
    grid = (groups, module.out_channels // groups, module.in_channels // groups, taps)
    return _layer(walk, node, -len(module.kernel_size) - 1, grid, module.out_channels)


@_leaf(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def transposed_convolution(walk: Walk, node: fx.Node) -> Tensor:
    """As a convolution; the weight is (in, out / groups, *kernel)."""
    module: Any = walk.leaf(node)
    groups, taps = module.groups, module.weight[0, 0].numel()
    grid = (groups, module.in_channels // groups, module.out_channels // groups, taps)
    return _layer(walk, node, -len(module.kernel_size) - 1, grid, module.out_channels, transposed=True)


def _layer(walk: Walk, node: fx.Node, along: int, grid: tuple[int, int, int, int], outs: int, transposed: bool = False) -> Tensor:
    sources = walk.inputs(node.all_input_nodes[0], along)
    targets = _edges(walk, node, sources, grid, outs, transposed)
    bias = getattr(walk.leaf(node), "bias", None)
    if bias is not None and walk.take(bias):
        walk.draft.attached.append(Attached(walk.names[id(bias)], "layer", targets))
    return walk.spread(node, targets, along)


def _edges(walk: Walk, node: fx.Node, sources: Ids, grid: tuple[int, int, int, int], outs: int, transposed: bool) -> Ids:
    """The nodes that a weight leads to."""
    weight: Any = walk.leaf(node).weight
    targets = walk.draft.fresh(outs, walk.draft.deeper(sources))
    ends = sources.reshape(grid[0], -1), targets.reshape(grid[0], -1)
    kernel, first = tuple(weight.shape[2:]), walk.take(weight)
    walk.draft.layers.append(Layer(str(node.target), walk.names[id(weight)], *ends, grid, transposed, kernel, first))
    return targets


@_leaf(nn.Embedding)
def embedding(walk: Walk, node: fx.Node) -> Tensor:
    """A linear layer whose inputs are the words of its vocabulary, one of which is 1."""
    module: Any = walk.leaf(node)
    rows, columns = module.weight.shape
    words = walk.draft.fresh(rows)
    walk.draft.read[words] = True
    return walk.spread(node, _edges(walk, node, words, (1, rows, columns, 1), columns, transposed=True), -1)


@_leaf(BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)
def channel_norm(walk: Walk, node: fx.Node) -> Tensor:
    """Over dimension 1."""
    return _norm(walk, node, 1)


@_leaf(nn.LayerNorm)
def layer_norm(walk: Walk, node: fx.Node) -> Tensor:
    """Over the last dimension; over several there is no conversion."""
    module: Any = walk.leaf(node)
    return _norm(walk, node, -1) if len(module.normalized_shape) == 1 else unchanged(walk, node)


def _norm(walk: Walk, node: fx.Node, along: int) -> Tensor:
    tensors = {name: getattr(walk.leaf(node), name, None) for name in PARTS}
    return norm(walk, node, node.all_input_nodes[0], along, {name: tensor for name, tensor in tensors.items() if tensor is not None})


@_leaf(nn.Dropout, nn.Identity, nn.PReLU)
def unchanged(walk: Walk, node: fx.Node) -> Tensor:
    return walk.of(node.all_input_nodes[0])
