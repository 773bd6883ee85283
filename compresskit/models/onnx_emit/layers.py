"""Layers with weights: convolutions, linear, norms, embedding; batch norm is folded into the layer before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from compresskit.models.onnx_emit.emitter import Emitter, UnsupportedError, handles
from compresskit.models.onnx_emit.values import Value, known


@handles("Conv1d", "Conv2d", "Conv3d")
def conv_leaf(e: Emitter, module: Any, x: Value) -> str:
    if module.padding_mode != "zeros":
        raise UnsupportedError(f"{type(module).__name__} with padding_mode={module.padding_mode!r}")
    weight, bias = _with_folded_norm(e, module)
    return conv(e, x, weight, bias, module.stride, module.padding, module.dilation, module.groups)


@handles("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
@handles("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding")
def conv(
    e: Emitter,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> str:
    kernel = [int(size) for size in weight.shape[2:]]  # type: ignore[arg-type]
    dilations = _spread(dilation, len(kernel))
    strides = _spread(stride, len(kernel))
    return e.op(
        "Conv",
        x,
        weight,
        bias,
        kernel_shape=kernel,
        strides=strides,
        pads=_pads(padding, kernel, dilations),
        dilations=dilations,
        group=groups,
    )


@handles("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
def conv_transpose_leaf(e: Emitter, module: Any, x: Value) -> str:
    weight, bias = _with_folded_norm(e, module)
    return conv_transpose(e, x, weight, bias, module.stride, module.padding, module.output_padding, module.groups, module.dilation)


@handles("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def conv_transpose(
    e: Emitter,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> str:
    rank = weight.rank - 2
    return e.op(
        "ConvTranspose",
        x,
        weight,
        bias,
        kernel_shape=weight.shape[2:],
        strides=_spread(stride, rank),
        pads=_spread(padding, rank) * 2,
        output_padding=_spread(output_padding, rank),
        dilations=_spread(dilation, rank),
        group=groups,
    )


@handles("Linear")
def linear_leaf(e: Emitter, module: nn.Linear, x: Value) -> str:
    weight, bias = _with_folded_norm(e, module)
    return linear(e, x, weight, bias)


@handles("aten.linear.default")
def linear(e: Emitter, x: Value, weight: Value, bias: Value | None = None) -> str:
    """Gemm on matrices (weight as torch has it, transB); MatMul, with the weight stored transposed, on anything else."""
    if x.rank == 2 and weight.rank == 2:
        return e.op("Gemm", x, weight, bias, transB=1)
    if weight.rank != 2:
        raise UnsupportedError("aten.linear with a weight that is not a matrix")
    transposed = known(weight.name, weight.data.t()) if weight.data is not None else e.op("Transpose", weight, perm=[1, 0])
    product = e.op("MatMul", x, transposed)
    return product if bias is None else e.op("Add", product, bias)


@handles("_BatchNorm")
def batch_norm_leaf(e: Emitter, module: Any, x: Value) -> str:
    if e.node in e.folded:
        return x.name
    weight, bias, mean, var = (e.parameter(module, name) for name in ("weight", "bias", "running_mean", "running_var"))
    return batch_norm(e, x, weight, bias, mean, var, False, 0.0, module.eps)


@handles("aten.batch_norm.default")
def batch_norm(
    e: Emitter,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> str:
    if training or running_mean is None or running_var is None:
        raise UnsupportedError("batch norm that uses the statistics of its batch")
    ones = weight or _filled(e, running_mean, 1.0)
    zeros = bias or _filled(e, running_mean, 0.0)
    return e.op("BatchNormalization", x, ones, zeros, running_mean, running_var, epsilon=eps)


@handles("LayerNorm")
def layer_norm_leaf(e: Emitter, module: nn.LayerNorm, x: Value) -> str:
    return layer_norm(e, x, module.normalized_shape, e.parameter(module, "weight"), e.parameter(module, "bias"), module.eps)


@handles("aten.layer_norm.default")
def layer_norm(
    e: Emitter,
    x: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = False,
) -> str:
    scale = weight or known("ones", torch.ones(tuple(normalized_shape), dtype=x.dtype))
    return e.op("LayerNormalization", x, scale, bias, axis=-len(normalized_shape), epsilon=eps)


@handles("GroupNorm")
def group_norm_leaf(e: Emitter, module: nn.GroupNorm, x: Value) -> str:
    return group_norm(e, x, module.num_groups, e.parameter(module, "weight"), e.parameter(module, "bias"), module.eps)


@handles("aten.group_norm.default")
def group_norm(
    e: Emitter,
    x: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> str:
    """Instance norm over the groups as channels, then the affine part: ONNX has no group norm with a scale per channel below opset 21."""
    grouped = e.op("Reshape", x, e.constant([0, num_groups, -1]))
    ones, zeros = (e.constant([value] * num_groups, x.dtype) for value in (1.0, 0.0))
    normed = e.op("InstanceNormalization", grouped, ones, zeros, epsilon=eps)
    result = e.reshape(normed, x.shape)
    for kind, parameter in (("Mul", weight), ("Add", bias)):
        if parameter is not None:
            result = e.op(kind, result, along_channels(e, parameter, x.rank))
    return result


@handles("_InstanceNorm")
def instance_norm_leaf(e: Emitter, module: Any, x: Value) -> str:
    weight, bias, mean, var = (e.parameter(module, name) for name in ("weight", "bias", "running_mean", "running_var"))
    return instance_norm(e, x, weight, bias, mean, var, mean is None, 0.0, module.eps)


@handles("aten.instance_norm.default")
def instance_norm(
    e: Emitter,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> str:
    if not use_input_stats:
        return batch_norm(e, x, weight, bias, running_mean, running_var, False, momentum, eps)
    width = x.shape[1]
    if x.rank < 3 or not isinstance(width, int):
        raise UnsupportedError("instance norm of an input without a batch axis")
    return e.op(
        "InstanceNormalization",
        x,
        weight or e.constant([1.0] * width, x.dtype),
        bias or e.constant([0.0] * width, x.dtype),
        epsilon=eps,
    )


@handles("Embedding")
def embedding_leaf(e: Emitter, module: nn.Embedding, indices: Value) -> str:
    if module.max_norm is not None:
        raise UnsupportedError("nn.Embedding with max_norm")
    return e.op("Gather", e.parameter(module, "weight"), indices, axis=0)


@handles("aten.embedding.default")
def embedding(e: Emitter, weight: Value, indices: Value, *options: Any) -> str:
    return e.op("Gather", weight, indices, axis=0)


@handles("PReLU")
def prelu_leaf(e: Emitter, module: nn.PReLU, x: Value) -> str:
    slope = e.parameter(module, "weight")
    assert slope is not None
    return prelu(e, x, slope)


@handles("aten.prelu.default")
def prelu(e: Emitter, x: Value, weight: Value) -> str:
    return e.op("PRelu", x, along_channels(e, weight, x.rank))


@handles("_DropoutNd", "Identity")
def dropout_leaf(e: Emitter, module: nn.Module, x: Value) -> str:
    return x.name


def along_channels(e: Emitter, vector: Value, rank: int) -> Value | str:
    """A vector of shape (C,) as (C, 1, ...), so that it broadcasts along axis 1 of a tensor of `rank`."""
    shape = (-1, *[1] * (rank - 2))
    if vector.data is not None:
        return known(vector.name, vector.data.reshape(shape))
    return e.op("Reshape", vector, e.constant(list(shape)))


def _with_folded_norm(e: Emitter, module: Any) -> tuple[Value, Value | None]:
    """Weight and bias of the layer at the current node, the batch norm after it folded in where nothing else reads the layer."""
    weight, bias = e.parameter(module, "weight"), e.parameter(module, "bias")
    assert weight is not None
    norm = _foldable_norm(e)
    if norm is None:
        return weight, bias
    folded_weight, folded_bias = fold(module, e.graph.module.get_submodule(str(norm.target)))
    e.folded.add(norm)
    return known(weight.name, folded_weight), known(f"{e.node.target}.bias", folded_bias)


def _foldable_norm(e: Emitter) -> fx.Node | None:
    users = list(e.node.users)
    if not e.fold_batchnorm or len(users) != 1 or users[0].op != "call_module":
        return None
    module = e.graph.module.get_submodule(str(users[0].target))
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_mean is None or module.training:
        return None
    layer = e.graph.module.get_submodule(str(e.node.target))
    channels_on_axis_1 = not isinstance(layer, nn.Linear) or len(e.result.shape) == 2
    return users[0] if channels_on_axis_1 else None


def fold(layer: Any, norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the layer that equals `norm(layer(x))`, computed in float64.

    With s = gamma / sqrt(var + eps): weight' = s * weight, bias' = s * (bias - mean) + beta, along the output channels: axis 0, or for
    transposed convolutions (in, out / groups, ...) axis 1 within each group.
    """
    weight = layer.weight.detach().double()
    width = norm.running_mean.numel()
    gamma = torch.ones(width).double() if norm.weight is None else norm.weight.detach().double()
    beta = torch.zeros(width).double() if norm.bias is None else norm.bias.detach().double()
    bias = torch.zeros(width).double() if layer.bias is None else layer.bias.detach().double()
    scale = gamma / torch.sqrt(norm.running_var.double() + norm.eps)
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
        folded = (grouped * scale.reshape(layer.groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)
    else:
        folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    dtype = layer.weight.dtype
    return folded.to(dtype), (scale * (bias - norm.running_mean.double()) + beta).to(dtype)


def _filled(e: Emitter, like: Value, value: float) -> str:
    (width,) = like.shape
    return e.constant([value] * int(width), like.dtype)  # type: ignore[arg-type]


def _spread(values: Sequence[int] | int, rank: int) -> list[int]:
    """ATen lets one number stand for every spatial direction."""
    listed = [values] if isinstance(values, int) else list(values)
    return listed * rank if len(listed) == 1 else listed


def _pads(padding: Sequence[int] | str, kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """ONNX pads: all begins, then all ends. "same" puts the odd one at the end."""
    if padding == "valid":
        return [0] * 2 * len(kernel)
    if padding == "same":
        totals = [dilation * (size - 1) for size, dilation in zip(kernel, dilations, strict=True)]
        return [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]
    return _spread(padding, len(kernel)) * 2  # type: ignore[arg-type]
