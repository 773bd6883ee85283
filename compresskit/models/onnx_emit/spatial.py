"""Pooling, padding and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from compresskit.models.onnx_emit.emitter import Emitter, UnsupportedError, handles
from compresskit.models.onnx_emit.trace import Dim
from compresskit.models.onnx_emit.values import Value


@handles("aten.max_pool1d.default", "aten.max_pool2d.default", "aten.max_pool3d.default")
def max_pool(
    e: Emitter,
    x: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> str:
    window = _window(e, x, kernel_size, stride, padding, dilation, ceil_mode)
    return e.op("MaxPool", x, **window)


@handles("aten.avg_pool1d.default", "aten.avg_pool2d.default", "aten.avg_pool3d.default")
def avg_pool(
    e: Emitter,
    x: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> str:
    if divisor_override is not None:
        raise UnsupportedError("average pooling with divisor_override")
    window = _window(e, x, kernel_size, stride, padding, (1,), ceil_mode)
    if window["ceil_mode"] and any(window["pads"]):
        raise UnsupportedError("padded average pooling with ceil_mode")  # the runtimes disagree on what the last window divides by
    return e.op("AveragePool", x, count_include_pad=int(count_include_pad), **window)


@handles("aten.adaptive_avg_pool1d.default", "aten.adaptive_avg_pool2d.default", "aten.adaptive_avg_pool3d.default")
def adaptive_avg_pool(e: Emitter, x: Value, output_size: Sequence[int]) -> str:
    return _adaptive(e, x, "Average")


@handles("aten.adaptive_max_pool1d.default", "aten.adaptive_max_pool2d.default", "aten.adaptive_max_pool3d.default")
def adaptive_max_pool(e: Emitter, x: Value, output_size: Sequence[int]) -> Sequence[str | None]:
    if any(user.args[1] != 0 for user in e.node.users):
        raise UnsupportedError("the indices of adaptive max pooling")
    return [_adaptive(e, x, "Max", e.traced[e.node][0].shape), None]


@handles("aten.pad.default")
def pad(e: Emitter, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> str:
    """ATen pads the last axes first, begin and end together; ONNX wants every begin, then every end."""
    begins, ends = [0] * x.rank, [0] * x.rank
    for back, (begin, end) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        begins[-1 - back], ends[-1 - back] = begin, end
    kinds = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    fill = e.constant(value or 0, x.dtype) if mode == "constant" else None
    return e.op("Pad", x, e.constant([*begins, *ends]), fill, mode=kinds[mode])


@handles("aten.constant_pad_nd.default")
def constant_pad(e: Emitter, x: Value, pad_: Sequence[int], value: float = 0) -> str:
    return pad(e, x, pad_, "constant", value)


@handles("aten.reflection_pad1d.default", "aten.reflection_pad2d.default", "aten.reflection_pad3d.default")
def reflection_pad(e: Emitter, x: Value, padding: Sequence[int]) -> str:
    return pad(e, x, padding, "reflect")


@handles("aten.replication_pad1d.default", "aten.replication_pad2d.default", "aten.replication_pad3d.default")
def replication_pad(e: Emitter, x: Value, padding: Sequence[int]) -> str:
    return pad(e, x, padding, "replicate")


@handles("aten.upsample_nearest1d.vec", "aten.upsample_nearest2d.vec", "aten.upsample_nearest3d.vec")
def upsample_nearest(e: Emitter, x: Value, output_size: Sequence[Any] | None, scale_factors: Sequence[float] | None) -> str:
    return _resize(e, x, output_size, scale_factors, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


@handles("aten.upsample_nearest1d.default", "aten.upsample_nearest2d.default", "aten.upsample_nearest3d.default")
def upsample_nearest_sized(e: Emitter, x: Value, output_size: Sequence[Any], *scales: float | None) -> str:
    return upsample_nearest(e, x, output_size, _scales(scales))


@handles("aten.upsample_linear1d.vec", "aten.upsample_bilinear2d.vec", "aten.upsample_trilinear3d.vec")
def upsample_linear(e: Emitter, x: Value, output_size: Sequence[Any] | None, align_corners: bool, scale_factors: Sequence[float] | None) -> str:
    return _resize(e, x, output_size, scale_factors, mode="linear", coordinate_transformation_mode=_corners(align_corners))


@handles("aten.upsample_linear1d.default", "aten.upsample_bilinear2d.default", "aten.upsample_trilinear3d.default")
def upsample_linear_sized(e: Emitter, x: Value, output_size: Sequence[Any], align_corners: bool, *scales: float | None) -> str:
    return upsample_linear(e, x, output_size, align_corners, _scales(scales))


@handles("aten.upsample_bicubic2d.vec")
def upsample_cubic(e: Emitter, x: Value, output_size: Sequence[Any] | None, align_corners: bool, scale_factors: Sequence[float] | None) -> str:
    return _resize(e, x, output_size, scale_factors, mode="cubic", coordinate_transformation_mode=_corners(align_corners), cubic_coeff_a=-0.75)


def _window(
    e: Emitter, x: Value, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], ceil_mode: bool
) -> dict[str, Any]:
    """The attributes of a pooling node. Ceil mode is dropped where it changes nothing."""
    rank = int(e.node.target._schema.name[-2])  # type: ignore[union-attr]  # aten::max_pool2d
    sizes, steps, pads, dilations = (_spread(values, rank) for values in (kernel, stride or kernel, padding, dilation))
    if x.rank != rank + 2:
        raise UnsupportedError("pooling of an input without a batch axis")
    floored = [
        (size + 2 * pad - spread * (extent - 1) - 1) // step + 1 if isinstance(size, int) else None
        for size, extent, step, pad, spread in zip(x.shape[2:], sizes, steps, pads, dilations, strict=True)
    ]
    needs_ceil = ceil_mode and floored != list(e.result.shape[2:])
    window = {"kernel_shape": sizes, "strides": steps, "pads": pads * 2, "ceil_mode": int(needs_ceil)}
    return window | ({"dilations": dilations} if set(dilations) != {1} else {})


def _adaptive(e: Emitter, x: Value, kind: str, shape: tuple[Dim, ...] | None = None) -> str:
    """Global pooling to 1x1, an ordinary window where the sizes divide."""
    wanted, given = (shape or e.result.shape)[2:], x.shape[2:]
    if x.rank != len(shape or e.result.shape) or x.rank < 3:
        raise UnsupportedError("adaptive pooling of an input without a batch axis")
    if set(wanted) == {1}:
        return e.op(f"Global{kind}Pool", x)
    if wanted == given:
        return x.name
    if not all(isinstance(size, int) and isinstance(goal, int) and size % goal == 0 for size, goal in zip(given, wanted, strict=True)):
        raise UnsupportedError(f"adaptive pooling from {given} to {wanted}")
    sizes = [size // goal for size, goal in zip(given, wanted, strict=True)]  # type: ignore[operator]
    return e.op(f"{kind}Pool", x, kernel_shape=sizes, strides=sizes)


def _resize(e: Emitter, x: Value, output_size: Sequence[Any] | None, scale_factors: Sequence[float] | None, **mode: Any) -> str:
    """torch maps coordinates with the factors where they were given, else with the ratio of the sizes."""
    if scale_factors is not None:
        return e.op("Resize", x, None, e.constant([1.0, 1.0, *map(float, scale_factors)], torch.float32), **mode)
    sizes = e.result.shape[2:]
    if output_size is None or not all(isinstance(size, int) for size in sizes):
        raise UnsupportedError("resampling to a size that follows the batch")
    return e.op("Resize", x, None, None, e.constant(list(sizes)), axes=list(range(2, x.rank)), **mode)  # type: ignore[arg-type]


def _corners(align: bool) -> str:
    return "align_corners" if align else "half_pixel"


def _scales(scales: Sequence[float | None]) -> list[float] | None:
    given = [scale for scale in scales if scale is not None]
    return given or None


def _spread(values: Sequence[int] | int, rank: int) -> list[int]:
    listed = [values] if isinstance(values, int) else list(values)
    return listed * rank if len(listed) == 1 else listed
