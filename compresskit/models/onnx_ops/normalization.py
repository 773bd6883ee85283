"""Normalization layers, as they run in inference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compresskit.models.onnx_ops.values import Node, axis_of, op


@op("BatchNormalization")
def batch_norm(node: Node, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """With its running statistics.

    Raises:
        ValueError: the file asks for training behaviour, or for statistics a position (spatial=0).
    """
    if node.get("training_mode", 0):
        raise ValueError("training_mode is on: export the model for inference")
    if node.opset < 9 and not node.get("spatial", 1):
        raise ValueError("spatial=0 is not supported")
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, node.get("epsilon", 1e-5))


@op("InstanceNormalization")
def instance_norm(node: Node, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=weight, bias=bias, eps=node.get("epsilon", 1e-5))


@op("LayerNormalization")
def layer_norm(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Over the axes from `axis` on.

    Raises:
        ValueError: the scale does not have the shape of those axes.
    """
    shape = tuple(x.shape[axis_of(node.get("axis", -1), x.ndim) :])
    if tuple(weight.shape) != shape or (bias is not None and tuple(bias.shape) != shape):
        raise ValueError(f"a scale of shape {list(weight.shape)} over axes of shape {list(shape)} is not supported")
    return F.layer_norm(x, shape, weight, bias, node.get("epsilon", 1e-5))


@op("GroupNormalization")
def group_norm(node: Node, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scale and bias are per channel from opset 21, per group before."""
    groups = node.get("num_groups")
    if node.opset < 21:
        weight, bias = (values.repeat_interleave(x.shape[1] // groups) for values in (weight, bias))
    return F.group_norm(x, groups, weight, bias, node.get("epsilon", 1e-5))


@op("LRN")
def local_response_norm(node: Node, x: Tensor) -> Tensor:
    """Across `size` channels.

    Raises:
        ValueError: an even size, whose middle ONNX and PyTorch place differently.
    """
    size = node.get("size")
    if size % 2 == 0:
        raise ValueError(f"an even size ({size}) is not supported")
    return F.local_response_norm(x, size, node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0))


@op("LpNormalization")
def lp_normalization(node: Node, x: Tensor) -> Tensor:
    axis = axis_of(node.get("axis", -1), x.ndim)
    return x / torch.linalg.vector_norm(x, node.get("p", 2), dim=axis, keepdim=True)
