"""Resize and its ancestor Upsample, along the last one to three axes.

ONNX has five ways to place output points on the input and four ways to round them; PyTorch has some of the combinations.
Those that PyTorch has become `interpolate`; other nearest ones become a gather of precomputed indices, other linear ones a
product with a precomputed matrix an axis; the rest is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from compresskit.models.onnx_ops.values import Node, Value, axis_of, op, sizes

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_HALF = np.float32(0.5)
_PLACES: Mapping[str, Callable[[np.ndarray, np.float32, int, int], np.ndarray]] = {
    # (output indices, scale, output size, input size) to positions on the input; in float32, as their rounding decides
    "half_pixel": lambda i, scale, out, size: (i + _HALF) / scale - _HALF,
    "pytorch_half_pixel": lambda i, scale, out, size: (i + _HALF) / scale - _HALF if out > 1 else 0 * i,
    "align_corners": lambda i, scale, out, size: i * np.float32(size - 1) / np.float32(max(out - 1, 1)),
    "asymmetric": lambda i, scale, out, size: i / scale,
}
_ROUNDINGS: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    # (positions, scale) to indices
    "round_prefer_floor": lambda position, scale: np.ceil(position - _HALF),
    "round_prefer_ceil": lambda position, scale: np.floor(position + _HALF),
    "floor": lambda position, scale: np.floor(position),
    "ceil": lambda position, scale: np.ceil(position),
    "opset 10": lambda position, scale: np.ceil(position) if scale < 1 else np.floor(position),
}


@op("Upsample")
def upsample(node: Node, x: Tensor, scales: Value | None = None) -> Tensor:
    """Scales are an attribute below opset 9 and an input from there; points are placed asymmetrically."""
    factors = node.get("scales") if scales is None else sizes(scales, "scales")
    outs = [math.floor(size * factor) for size, factor in zip(x.shape[2:], factors[2:], strict=True)]
    _keep_leading(factors[:2], (1, 1))
    return _resize(x, node.get("mode", "nearest"), "asymmetric", "opset 10", outs, factors[2:])


@op("Resize")
def resize(node: Node, x: Tensor, second: Value | None = None, scales: Value | None = None, target: Value | None = None) -> Tensor:
    """Opset 10 takes scales as its second input; later ones take roi, scales and sizes.

    Raises:
        ValueError: settings that are not read exactly (crops, antialiasing, aspect policies, other cubic kernels).
    """
    if node.opset < 11:
        scales, placing, rounding = second, "asymmetric", "opset 10"
    else:
        placing = node.get("coordinate_transformation_mode", "half_pixel")
        rounding = node.get("nearest_mode", "round_prefer_floor")
    for name, plain in (("antialias", 0), ("exclude_outside", 0), ("keep_aspect_ratio_policy", "stretch")):
        if node.get(name, plain) != plain:
            raise ValueError(f"{name} is not supported")
    chosen = [axis_of(axis, x.ndim) for axis in node.get("axes", range(x.ndim))]
    factors: dict[int, float] = {}
    outs: dict[int, int] = {}
    if target is not None:
        outs = dict(zip(chosen, sizes(target, "sizes"), strict=True))
    else:
        factors = dict(zip(chosen, sizes(scales, "scales"), strict=True))
    _keep_leading([factors.get(axis, 1) for axis in (0, 1)], (1, 1))
    _keep_leading([outs.get(axis, x.shape[axis]) for axis in (0, 1)], x.shape[:2])
    spatial = range(2, x.ndim)
    wanted = [outs[axis] if axis in outs else math.floor(x.shape[axis] * factors.get(axis, 1.0)) for axis in spatial]
    ratios = [factors.get(axis, out / x.shape[axis]) for axis, out in zip(spatial, wanted, strict=True)]
    if node.get("mode", "nearest") == "cubic" and node.get("cubic_coeff_a", -0.75) != -0.75:
        raise ValueError("a cubic coefficient other than -0.75 is not supported")
    return _resize(x, node.get("mode", "nearest"), placing, rounding, wanted, ratios)


def _keep_leading(found: Sequence[float], kept: Sequence[float]) -> None:
    if any(a != b for a, b in zip(found, kept, strict=True)):
        raise ValueError("resizing the batch or channel axis is not supported")


def _resize(x: Tensor, mode: str, placing: str, rounding: str, outs: list[int], scales: Sequence[float]) -> Tensor:
    ins = list(x.shape[2:])
    if outs == ins and all(scale == 1 for scale in scales):
        return x
    if max(outs) > 1 << 20:
        raise ValueError(f"sizes {outs} are beyond reason")
    if placing not in _PLACES or mode not in ("nearest", "linear", "cubic") or len(ins) not in _LINEAR:
        raise ValueError(f"mode {mode!r} with {placing!r} over {len(ins)} axes is not supported")
    whole = all(abs(out - size * scale) < 1e-4 for out, size, scale in zip(outs, ins, scales, strict=True))
    if mode == "nearest":
        return _nearest(x, placing, rounding, outs, scales)
    same = placing.endswith("half_pixel") and (whole and (min(outs) > 1 or placing == "half_pixel"))
    if mode == "cubic" and len(ins) != 2:
        raise ValueError("cubic interpolation over anything but 2 axes is not supported")
    if same or placing == "align_corners":
        name = "bicubic" if mode == "cubic" else _LINEAR[len(ins)]
        return F.interpolate(x, size=outs, mode=name, align_corners=placing == "align_corners")
    if mode == "cubic":
        raise ValueError(f"cubic interpolation with {placing!r} is not supported")
    for axis, (size, out, scale) in enumerate(zip(ins, outs, scales, strict=True), start=2):
        matrix = torch.from_numpy(_matrix(placing, size, out, scale)).to(x.dtype)
        x = torch.matmul(x.movedim(axis, -1), matrix).movedim(-1, axis)
    return x


def _nearest(x: Tensor, placing: str, rounding: str, outs: list[int], scales: Sequence[float]) -> Tensor:
    if rounding not in _ROUNDINGS:
        raise ValueError(f"nearest_mode {rounding!r} is unknown")
    ins = list(x.shape[2:])
    chosen = [
        np.clip(_ROUNDINGS[rounding](_positions(placing, size, out, scale), scale), 0, size - 1).astype(np.int64)
        for size, out, scale in zip(ins, outs, scales, strict=True)
    ]
    if all(np.array_equal(indices, np.arange(out) * size // out) for indices, size, out in zip(chosen, ins, outs, strict=True)):
        return F.interpolate(x, size=outs, mode="nearest")
    for axis, indices in enumerate(chosen, start=2):
        x = x.index_select(axis, torch.from_numpy(indices))
    return x


def _positions(placing: str, size: int, out: int, scale: float) -> np.ndarray:
    return _PLACES[placing](np.arange(out, dtype=np.float32), np.float32(scale), out, size)


def _matrix(placing: str, size: int, out: int, scale: float) -> np.ndarray:
    """Linear interpolation along one axis as a matrix (size, out): each output is a mean of two neighbours, clamped at the ends."""
    positions = np.clip(_positions(placing, size, out, scale), 0, size - 1)
    left = np.floor(positions).astype(int)
    right = np.minimum(left + 1, size - 1)
    share = positions - left
    matrix = np.zeros((size, out), np.float32)
    np.add.at(matrix, (left, np.arange(out)), 1 - share)
    np.add.at(matrix, (right, np.arange(out)), share)
    return matrix
