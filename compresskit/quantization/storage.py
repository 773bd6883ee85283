"""Integers in ONNX files: which element type holds a number of bits, from which opset on, and how the small ones are packed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto


@dataclass(frozen=True)
class Container:
    """An element type of ONNX.

    Attributes:
        kind: its number.
        bits: that one element takes.
        opset: the first whose DequantizeLinear reads it (scales by channel included).
    """

    kind: int
    bits: int
    opset: int


_SIGNED = (
    Container(TensorProto.INT2, 2, 25),
    Container(TensorProto.INT4, 4, 21),
    Container(TensorProto.INT8, 8, 13),
    Container(TensorProto.INT16, 16, 21),
)
_INDICES = (
    Container(TensorProto.UINT2, 2, 25),
    Container(TensorProto.UINT4, 4, 21),
    Container(TensorProto.UINT8, 8, 13),
)
_UNSIGNED = (Container(TensorProto.UINT8, 8, 13), Container(TensorProto.UINT16, 16, 21))


def weight_container(bits: int) -> Container:
    """What signed integers of `bits` are stored in."""
    return next(container for container in _SIGNED if container.bits >= bits)


def index_container(bits: int) -> Container:
    """What indices into 2^bits numbers are stored in, up to 8 bits."""
    return next(container for container in _INDICES if container.bits >= bits)


def activation_container(bits: int) -> Container:
    """What unsigned integers of `bits` are computed in: no less than 8 bits, for which there are kernels."""
    return next(container for container in _UNSIGNED if container.bits >= bits)


def tensor(name: str, values: np.ndarray, kind: int, bits: int) -> TensorProto:
    """Integers as a stored tensor of `bits` each. Below 8, the first lies in a byte's lowest bits (onnx.proto, TensorProto.DataType).

    >>> tensor("w", np.array([1, -1, 7]), TensorProto.INT4, 4).raw_data.hex()
    'f107'
    """
    if bits >= 8:
        raw = values.astype(f"<i{bits // 8}").tobytes()
    else:
        each = 8 // bits
        parts = np.zeros(-(-values.size // each) * each, np.uint8)
        parts[: values.size] = values.ravel() & (2**bits - 1)
        raw = np.bitwise_or.reduce(parts.reshape(-1, each) << (bits * np.arange(each, dtype=np.uint8)), axis=1).astype(np.uint8).tobytes()
    return TensorProto(name=name, data_type=kind, dims=values.shape, raw_data=raw)
