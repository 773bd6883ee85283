"""Maximum, average and global pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from compresskit.models.onnx_ops.spatial import Window, pad_ends, window
from compresskit.models.onnx_ops.values import Node, op

_MAX: Mapping[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: Mapping[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _window(node: Node, x: Tensor) -> Window:
    if x.ndim - 2 not in _MAX:
        raise ValueError(f"pooling over {x.ndim - 2} axes is not supported")
    return window(node, tuple(node.get("kernel_shape")), tuple(x.shape[2:]))


def _missing(node: Node, w: Window, spatial: tuple[int, ...]) -> tuple[int, ...]:
    """How far the last window of each axis runs past the padded input: above 0 only where ceil_mode adds a window."""
    past = []
    for axis, size in enumerate(spatial):
        span = size + w.begin[axis] + w.end[axis] - w.extent(axis)
        if span < 0:
            raise ValueError(f"a window of {w.extent(axis)} does not fit an axis of {size} entries")
        steps = span // w.stride[axis]
        if node.get("ceil_mode", 0) and span % w.stride[axis] and (steps + 1) * w.stride[axis] < size + w.begin[axis]:
            steps += 1  # a window that would begin in the padding at the end does not count
        past.append(max(steps * w.stride[axis] - span, 0))
    return tuple(past)


@op("MaxPool")
def max_pool(node: Node, x: Tensor) -> Tensor:
    """The maximum; where PyTorch has no such padding, the input is padded with minus infinity.

    Raises:
        ValueError: the positions are wanted too.
    """
    if len(node.outputs) > 1 and node.outputs[1]:
        raise ValueError("the second output (positions of the maxima) is not supported")
    w = _window(node, x)
    past = _missing(node, w, tuple(x.shape[2:]))
    fits = w.symmetric and all(2 * pad <= kernel for pad, kernel in zip(w.begin, w.kernel, strict=True))
    if fits:
        return _MAX[x.ndim - 2](x, w.kernel, w.stride, w.begin, w.dilation, ceil_mode=any(past))
    lowest = float("-inf") if x.dtype.is_floating_point else torch.iinfo(x.dtype).min
    padded = pad_ends(x, w.begin, tuple(end + more for end, more in zip(w.end, past, strict=True)), lowest)
    return _MAX[x.ndim - 2](padded, w.kernel, w.stride, 0, w.dilation)


@op("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    """The mean of each window, padding counted where the node says so.

    Raises:
        ValueError: dilated windows, or windows past the end together with uneven padding.
    """
    w = _window(node, x)
    if any(step != 1 for step in w.dilation):
        raise ValueError("dilated average pooling is not supported")
    counted = bool(node.get("count_include_pad", 0))
    past = _missing(node, w, tuple(x.shape[2:]))
    run = _AVERAGE[x.ndim - 2]
    fits = w.symmetric and all(2 * pad <= kernel for pad, kernel in zip(w.begin, w.kernel, strict=True))
    if fits:
        return run(x, w.kernel, w.stride, w.begin, ceil_mode=any(past), count_include_pad=counted)
    if any(past):
        raise ValueError("ceil_mode with uneven padding is not supported")
    total = run(pad_ends(x, w.begin, w.end), w.kernel, w.stride)
    if counted:
        return total
    share = run(pad_ends(torch.ones_like(x[:1, :1]), w.begin, w.end), w.kernel, w.stride)
    return total / share


@op("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    if x.ndim == 4:
        return F.adaptive_avg_pool2d(x, 1)
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


@op("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)
