"""Windows over spatial axes: padding rules that convolution and pooling share.

ONNX pads begin and end of an axis apart; PyTorch pads both alike. Where the two differ the input is padded first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from compresskit.models.onnx_ops.values import Node


@dataclass(frozen=True)
class Window:
    """A sliding window, one entry a spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """Whether PyTorch's one padding an axis says it."""
        return self.begin == self.end

    def extent(self, axis: int) -> int:
        """How many entries one window spans."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1


def window(node: Node, kernel: tuple[int, ...], spatial: tuple[int, ...]) -> Window:
    """The window of a node whose input has the spatial sizes `spatial`, `auto_pad` worked out.

    Raises:
        ValueError: an attribute has the wrong length or a value that means nothing.
    """
    rank = len(spatial)
    stride = _entries(node, "strides", rank, 1)
    dilation = _entries(node, "dilations", rank, 1)
    if len(kernel) != rank:
        raise ValueError(f"a kernel of {len(kernel)} axes cannot slide over {rank}")
    if min((*kernel, *stride, *dilation)) < 1:
        raise ValueError("kernel, strides and dilations must be at least 1")
    mode = node.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = tuple(node.get("pads") or (0,) * (2 * rank))
        if len(pads) != 2 * rank or min(pads) < 0:
            raise ValueError(f"pads {list(pads)} do not fit {rank} axes")
        return Window(kernel, stride, dilation, pads[:rank], pads[rank:])
    if mode == "VALID":
        return Window(kernel, stride, dilation, (0,) * rank, (0,) * rank)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad {mode!r} is unknown")
    totals = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, s, d, k in zip(spatial, stride, dilation, kernel, strict=True)]
    less = tuple(total // 2 for total in totals)
    more = tuple(total - total // 2 for total in totals)
    return Window(kernel, stride, dilation, *((less, more) if mode == "SAME_UPPER" else (more, less)))


def _entries(node: Node, name: str, rank: int, default: int) -> tuple[int, ...]:
    values = tuple(node.get(name) or (default,) * rank)
    if len(values) != rank:
        raise ValueError(f"{name} {list(values)} does not fit {rank} spatial axes")
    return values


def pad_ends(x: Tensor, begin: tuple[int, ...], end: tuple[int, ...], value: float = 0.0) -> Tensor:
    """`x` padded (cropped where negative) on its last axes by `begin` and `end` entries of `value`."""
    if not any((*begin, *end)):
        return x
    pads = [amount for pair in reversed(list(zip(begin, end, strict=True))) for amount in pair]
    return F.pad(x, pads, value=value)
