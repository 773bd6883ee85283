"""Rules for module leaves: convolutions, linear layers, norms, embeddings."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from compresskit.models.graph import leaf
from compresskit.models.leaves import BatchNorm
from compresskit.pruning.rules.base import leaf_rule, replaced
from compresskit.pruning.trace import Dims, Labels, Trace


def _tensors(trace: Trace, node: fx.Node) -> dict[str, Dims]:
    """Labels of the leaf's parameters and buffers; kernels stay whole."""
    module = leaf(trace.graph, node)
    named = [*module.named_parameters(recurse=False, remove_duplicate=False), *module.named_buffers(recurse=False, remove_duplicate=False)]
    return {name: trace.tensor(f"{node.target}.{name}", tensor, ranks=2) for name, tensor in named if tensor.ndim}


@leaf_rule(nn.Linear)
def linear(trace: Trace, node: fx.Node) -> Dims:
    """(..., in) to (..., out)."""
    tensors = _tensors(trace, node)
    source = trace.dims(node.args[0])
    out, into = tensors["weight"]
    trace.tie(source[-1], into, f"{node.target} reads inputs that cannot be cut")
    if "bias" in tensors:
        trace.tie(out, tensors["bias"][0], f"{node.target} has a single output")
    return (*source[:-1], out)


@leaf_rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(trace: Trace, node: fx.Node) -> Dims:
    """(batch, in, *space) to (batch, out, *space); the weight is (out, in / groups, *kernel)."""
    return _convolution(trace, node, out=0, into=1)


@leaf_rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def transposed_convolution(trace: Trace, node: fx.Node) -> Dims:
    """As a convolution; the weight is (in, out / groups, *kernel)."""
    return _convolution(trace, node, out=1, into=0)


def _convolution(trace: Trace, node: fx.Node, out: int, into: int) -> Dims:
    module: Any = leaf(trace.graph, node)
    tensors = _tensors(trace, node)
    name, weight, source = node.target, tensors["weight"], trace.dims(node.args[0])
    channels = len(source) - len(module.kernel_size) - 1  # 1, or 0 without a batch
    entering = source[channels]
    trace.pin(source[channels + 1 :], f"{name} runs over it")
    if module.groups == 1:
        trace.tie(entering, weight[into], f"{name} reads inputs that cannot be cut")
        leaving = weight[out]
    elif module.groups == module.in_channels:
        leaving = _depthwise(trace, node, entering, weight)
    else:
        leaving = _grouped(trace, node, entering, weight)
    if "bias" in tensors:
        trace.tie(leaving, tensors["bias"][0], f"{name} has a single output")
    return replaced(trace.free(node), channels, leaving)


def _depthwise(trace: Trace, node: fx.Node, entering: Labels | None, weight: Dims) -> Labels | None:
    """One group a channel: outputs i*m .. i*m+m-1 stand or fall with input i, and the number of groups shrinks along."""
    module: Any = leaf(trace.graph, node)
    multiplier = module.out_channels // module.groups
    if module.transposed and multiplier > 1:
        trace.pin([entering, *weight], f"{node.target} is a transposed depthwise convolution with several outputs an input")
        return None
    trace.tie(None if entering is None else entering.repeat(multiplier), weight[0], f"{node.target} reads inputs that cannot be cut")
    return weight[0]


def _grouped(trace: Trace, node: fx.Node, entering: Labels | None, weight: Dims) -> Labels | None:
    """The number of groups stays; channel j of one group stands or falls with channel j of every other."""
    module: Any = leaf(trace.graph, node)
    if module.transposed:
        trace.pin([entering, *weight], f"{node.target} is a grouped transposed convolution")
        return None
    for labels in (entering, weight[0]):
        if labels is not None:
            _tie_groups(trace, labels, module.groups)
    first = None if entering is None else entering[: module.in_channels // module.groups]
    trace.tie(first, weight[1], f"{node.target} reads inputs that cannot be cut")
    return weight[0]


def _tie_groups(trace: Trace, labels: Labels, groups: int) -> None:
    grid = labels.reshape(groups, -1)
    for row in grid[1:]:
        trace.atoms.tie(grid[0], row)


@leaf_rule(BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def batch_norm(trace: Trace, node: fx.Node) -> Dims:
    """Each channel by itself."""
    source = trace.dims(node.args[0])
    for dims in _tensors(trace, node).values():
        trace.tie(source[1], dims[0], f"{node.target} reads inputs that cannot be cut")
    return source


@leaf_rule(nn.PReLU)
def prelu(trace: Trace, node: fx.Node) -> Dims:
    """One slope a channel, or one for all."""
    source = trace.dims(node.args[0])
    (slope,) = _tensors(trace, node)["weight"]
    if slope is not None:
        trace.tie(source[1], slope, f"{node.target} reads inputs that cannot be cut")
    return source


@leaf_rule(nn.LayerNorm)
def layer_norm(trace: Trace, node: fx.Node) -> Dims:
    """Its mean and variance run over the last dimensions: with one channel fewer, every other one changes."""
    module: Any = leaf(trace.graph, node)
    source = trace.dims(node.args[0])
    over = len(module.normalized_shape)
    trace.pin(source[-over:], f"{node.target} takes its mean and variance over these channels")
    for dims in _tensors(trace, node).values():
        trace.pin(dims, f"{node.target} takes its mean and variance over these channels")
    return (*source[:-over], *(None,) * over)


@leaf_rule(nn.GroupNorm)
def group_norm(trace: Trace, node: fx.Node) -> Dims:
    """As layer norm, within each group of channels."""
    source = trace.dims(node.args[0])
    reason = f"{node.target} takes its mean and variance over these channels"
    for dims in _tensors(trace, node).values():
        trace.pin(dims, reason)
    trace.pin(source[1:], reason)
    return trace.free(node)


@leaf_rule(nn.Embedding)
def embedding(trace: Trace, node: fx.Node) -> Dims:
    """The rows are the vocabulary and stay; the columns are channels."""
    rows, columns = _tensors(trace, node)["weight"]
    trace.atoms.pin(rows, f"{node.target}: a vocabulary is not cut")
    return (*(None,) * len(trace.shape(node.args[0])), columns)


@leaf_rule(nn.Dropout, nn.Identity)
def unchanged(trace: Trace, node: fx.Node) -> Dims:
    return trace.dims(node.args[0])
