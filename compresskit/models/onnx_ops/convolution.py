"""Convolution and transposed convolution over one to three spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from compresskit.models.onnx_ops.spatial import pad_ends, window
from compresskit.models.onnx_ops.values import Node, op

_CONV: Mapping[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: Mapping[int, Callable[..., Tensor]] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _kernel(node: Node, x: Tensor, weight: Tensor) -> tuple[int, ...]:
    kernel = tuple(weight.shape[2:])
    if x.ndim != weight.ndim or x.ndim - 2 not in _CONV:
        raise ValueError(f"an input of {x.ndim} axes and a weight of {weight.ndim} do not make a convolution over 1 to 3 axes")
    if tuple(node.get("kernel_shape", kernel)) != kernel:
        raise ValueError(f"kernel_shape {list(node.get('kernel_shape'))} is not the weight's, {list(kernel)}")
    return kernel


@op("Conv")
def conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Weight (out, in / groups, *kernel)."""
    w = window(node, _kernel(node, x, weight), tuple(x.shape[2:]))
    padding: Any = w.begin
    if not w.symmetric:
        x, padding = pad_ends(x, w.begin, w.end), 0
    return _CONV[x.ndim - 2](x, weight, bias, w.stride, padding, w.dilation, node.get("group", 1))


@op("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Weight (in, out / groups, *kernel)."""
    kernel = _kernel(node, x, weight)
    rank = len(kernel)
    extra = tuple(node.get("output_padding") or (0,) * rank)
    explicit = Node(node.name, node.op, node.opset, attributes={**node.attributes, "auto_pad": "NOTSET"})
    w = window(explicit, kernel, tuple(x.shape[2:]))
    begin, end = w.begin, w.end
    mode = node.get("auto_pad", "NOTSET")
    target = node.get("output_shape")
    if mode.startswith("SAME") and target is None:
        target = [size * stride for size, stride in zip(x.shape[2:], w.stride, strict=True)]
    if mode == "VALID":
        begin = end = (0,) * rank
    elif target is not None:
        full = [(x.shape[2 + axis] - 1) * w.stride[axis] + w.extent(axis) + extra[axis] for axis in range(rank)]
        begin, end = _split(full, list(target)[-rank:], upper=mode == "SAME_UPPER")
    run = _TRANSPOSED[rank]
    settings = {"stride": w.stride, "output_padding": extra, "groups": node.get("group", 1), "dilation": w.dilation}
    if begin == end and min(begin) >= 0:
        return run(x, weight, bias, padding=begin, **settings)
    cropped = run(x, weight, bias, padding=0, **settings)
    return pad_ends(cropped, tuple(-amount for amount in begin), tuple(-amount for amount in end))


def _split(full: list[int], target: list[int], upper: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How much of a full result of sizes `full` is cut off at each begin and end to leave `target`.

    Raises:
        ValueError: the target is larger than the full result.
    """
    totals = [whole - wanted for whole, wanted in zip(full, target, strict=True)]
    if min(totals) < 0:
        raise ValueError(f"output_shape {target} is larger than the full result {full}")
    less = tuple(total // 2 for total in totals)
    more = tuple(total - total // 2 for total in totals)
    return (less, more) if upper else (more, less)
