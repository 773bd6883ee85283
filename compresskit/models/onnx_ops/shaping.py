"""Operators that change shapes and move entries, and the arithmetic on shapes around them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from compresskit.models.onnx_ops.values import HOST_LIMIT, Node, Size, Value, axis_of, bounded, host, is_host, op, pack, sizes, tensor


@op("Identity")
def identity(node: Node, x: Value) -> Value:
    return x


@op("Shape")
def shape(node: Node, x: Value) -> np.ndarray:
    return pack(list(x.shape)[node.get("start", 0) : node.get("end")], np.int64)


@op("Size")
def size(node: Node, x: Value) -> np.ndarray:
    return pack(math.prod(x.shape), np.int64)


@op("Reshape")
def reshape(node: Node, x: Value, target: Value) -> Value:
    """0 in the target copies the input's size (unless `allowzero`), -1 takes what is left."""
    wanted = sizes(target, "the shape")
    if not node.get("allowzero", 0):
        wanted = [x.shape[axis] if entry == 0 else entry for axis, entry in enumerate(wanted)]
    return x.reshape(wanted)


@op("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    """To two axes, split before `axis`."""
    axis = node.get("axis", 1)
    if axis == 1 and x.ndim > 1:
        return torch.flatten(x, 1)
    split = axis if axis == x.ndim else axis_of(axis, x.ndim)
    return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))


@op("Transpose")
def transpose(node: Node, x: Value) -> Value:
    order = list(node.get("perm") or reversed(range(x.ndim)))
    return x.transpose(order) if isinstance(x, np.ndarray) else x.permute(order)


def _axes(node: Node, axes: Value | None) -> Sequence[Size] | None:
    """Axes are an attribute below opset 13 and an input from there."""
    return node.get("axes") if node.opset < 13 else None if axes is None else sizes(axes, "axes")


@op("Squeeze")
def squeeze(node: Node, x: Value, axes: Value | None = None) -> Value:
    chosen = _axes(node, axes)
    dims = [axis for axis in range(x.ndim) if x.shape[axis] == 1] if chosen is None else [axis_of(axis, x.ndim) for axis in chosen]
    for axis in sorted(dims, reverse=True):
        if x.shape[axis] != 1:
            raise ValueError(f"axis {axis} has {x.shape[axis]} entries and cannot be squeezed")
        x = x.squeeze(axis)
    return x


@op("Unsqueeze")
def unsqueeze(node: Node, x: Value, axes: Value | None = None) -> Value:
    chosen = _axes(node, axes) or []
    for axis in sorted(axis_of(axis, x.ndim + len(chosen)) for axis in chosen):
        x = np.expand_dims(x, axis) if isinstance(x, np.ndarray) else x.unsqueeze(axis)
    return x


@op("Concat")
def concat(node: Node, *values: Value) -> Value:
    axis = axis_of(node.get("axis"), values[0].ndim)
    if is_host(*values):
        return pack(np.concatenate(values, axis=axis), None if any(value.dtype == object for value in values) else values[0].dtype)
    return torch.cat([tensor(value) for value in values], dim=axis)


@op("Split")
def split(node: Node, x: Value, parts: Value | None = None) -> tuple[Value, ...]:
    """Into the sizes given (an attribute below opset 13), or evenly, the last part smaller where they do not divide."""
    axis = axis_of(node.get("axis", 0), x.ndim)
    lengths = node.get("split") if parts is None else sizes(parts, "split")
    if lengths is None:
        count = len(node.outputs)
        each = -(-x.shape[axis] // count)
        lengths = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    if len(lengths) != len(node.outputs) or sum(lengths) != x.shape[axis]:
        raise ValueError(f"parts {list(lengths)} do not make {len(node.outputs)} outputs of an axis of {x.shape[axis]} entries")
    if isinstance(x, np.ndarray):
        return tuple(np.split(x, np.cumsum(lengths)[:-1], axis=axis))
    return torch.split(x, list(lengths), dim=axis)


@op("Expand")
def expand(node: Node, x: Value, target: Value) -> Value:
    """Broadcast both ways: a 1 on either side takes the other's size."""
    wanted = sizes(target, "the shape")
    rank = max(len(wanted), x.ndim)
    have = [1] * (rank - x.ndim) + list(x.shape)
    want = [1] * (rank - len(wanted)) + wanted
    result = [old if new == 1 else new for old, new in zip(have, want, strict=True)]
    if isinstance(x, np.ndarray):
        return np.broadcast_to(x, bounded(result))
    return x.expand(result)


@op("Tile")
def tile(node: Node, x: Value, repeats: Value) -> Value:
    times = sizes(repeats, "repeats")
    if isinstance(x, np.ndarray):
        bounded([entry * count for entry, count in zip(x.shape, times, strict=True)])
        return np.tile(x, times)
    return x.repeat(times)


@op("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    """CRD order is PyTorch's pixel shuffle; DCR has the block ahead of the channels."""
    block = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, block, block, channels // block**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // block**2, height * block, width * block)


@op("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    block = node.get("blocksize")
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // block, block, width // block, block)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * block**2, height // block, width // block)


@op("Constant")
def constant(node: Node) -> np.ndarray:
    """The one attribute that carries the value."""
    for name, dtype in (
        ("value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype=dtype)
    raise ValueError(f"no numbers among its attributes ({', '.join(node.attributes) or 'none'})")


@op("ConstantOfShape")
def constant_of_shape(node: Node, target: Value) -> Value:
    """Host where it can be a shape itself, data otherwise."""
    wanted = sizes(target, "the shape")
    filler = node.get("value", np.zeros(1, np.float32)).reshape(-1)
    if len(wanted) <= 1 and filler.dtype.kind != "f" and not any(isinstance(entry, torch.SymInt) for entry in wanted):
        return np.full(bounded(wanted), filler[0])
    return torch.full(wanted, filler[0].item(), dtype=tensor(filler).dtype)


@op("Range")
def arange(node: Node, start: Value, limit: Value, delta: Value) -> Value:
    bounds = [sizes(value, "the range")[0] for value in (start, limit, delta)]
    if any(isinstance(bound, torch.SymInt) for bound in bounds):
        return torch.arange(*bounds)
    if (bounds[1] - bounds[0]) / bounds[2] > HOST_LIMIT:
        raise ValueError(f"a range of over {HOST_LIMIT} entries")
    return np.arange(*bounds, dtype=host(start, "the range").dtype)


@op("Pad")
def pad(node: Node, x: Tensor, pads: Value | None = None, value: Value | None = None, axes: Value | None = None) -> Tensor:
    """Pads and value are attributes below opset 11; a negative pad crops."""
    amounts = list(node.get("pads")) if node.opset < 11 else sizes(pads, "pads")
    filler = node.get("value", 0.0) if node.opset < 11 else 0.0 if value is None else sizes(value, "the pad value")[0]
    chosen = range(x.ndim) if axes is None else [axis_of(axis, x.ndim) for axis in sizes(axes, "axes")]
    if len(amounts) != 2 * len(chosen):
        raise ValueError(f"pads {amounts} do not fit {len(chosen)} axes")
    pairs = {axis: (amounts[i], amounts[i + len(chosen)]) for i, axis in enumerate(chosen)}
    mode = node.get("mode", "constant")
    first = min((axis for axis, pair in pairs.items() if any(pair)), default=x.ndim)
    if first == x.ndim:
        return x
    flat = [amount for axis in reversed(range(first if mode == "constant" else min(first, 2), x.ndim)) for amount in pairs.get(axis, (0, 0))]
    if mode == "constant":
        return F.pad(x, flat, value=filler)
    if mode not in _PAD_MODES or min(flat) < 0:
        raise ValueError(f"pads {amounts} in mode {mode!r} are not supported")
    return F.pad(x, flat, mode=_PAD_MODES[mode])


_PAD_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
