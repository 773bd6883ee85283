"""What ONNX nodes pass to each other while they are read: tensors, and numbers known before the network runs.

A value is a `torch.Tensor` (data) or a `numpy.ndarray` (host: shapes, axes, indices, scalars and arithmetic on them).
Host arrays of integers hold plain int64 or, where the batch is open, dtype object with `torch.SymInt` entries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compresskit.registry import Registry

Value = Tensor | np.ndarray
Size = Any
"""An int, or a `torch.SymInt` where the batch is open."""

Handler = Callable[..., "Value | tuple[Value, ...]"]

HOST_LIMIT = 1 << 24
"""Most entries of one host array: shapes and index tables are small, so more is an attack."""

OPS: Registry[Handler] = Registry("ONNX operator")
op = OPS.register


@dataclass(frozen=True)
class Node:
    """One ONNX node: attributes decoded to Python values (tensors to numpy arrays), `opset` of its domain."""

    name: str
    op: str
    opset: int
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute `name`, or `default` where the node has none."""
        return self.attributes.get(name, default)


def is_host(*values: Value | None) -> bool:
    """Whether every value given is known ahead."""
    return all(value is None or isinstance(value, np.ndarray) for value in values)


def host(value: Value | None, what: str) -> np.ndarray:
    """`value` as a host array.

    Raises:
        ValueError: it is data.
    """
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{what} must be known before the network runs, and here depends on its data")
    return value


def sizes(value: Value | None, what: str) -> list[Size]:
    """A host array as a flat list of integers."""
    return host(value, what).reshape(-1).tolist()


def scalar(value: Value, what: str) -> Any:
    """A host array of one entry as a Python number.

    Raises:
        ValueError: it has more entries, or is data.
    """
    array = host(value, what)
    if array.size != 1:
        raise ValueError(f"{what} must be one number, got shape {list(array.shape)}")
    return array.reshape(-1).tolist()[0]


def pack(values: Any, dtype: Any = None) -> np.ndarray:
    """Numbers (an array, a list, one number; symbolic or not) as a host array, of `dtype` where nothing is symbolic."""
    array = np.array(values, dtype=object)
    kinds = {type(entry) for entry in array.reshape(-1).tolist()}
    if any(issubclass(kind, (torch.SymInt, torch.SymFloat, torch.SymBool)) for kind in kinds):
        return array
    if dtype is None or np.dtype(dtype).hasobject:
        dtype = np.float32 if float in kinds else np.bool_ if kinds == {bool} else np.int64
    return array.astype(dtype)


def tensor(value: Value) -> Tensor:
    """`value` as data."""
    if isinstance(value, Tensor):
        return value
    if value.dtype == object:
        entries = value.reshape(-1).tolist()
        real = any(isinstance(entry, (float, torch.SymFloat)) for entry in entries)
        dtype = torch.float32 if real else torch.int64
        return torch.stack([torch.scalar_tensor(entry, dtype=dtype) for entry in entries]).reshape(value.shape)
    if value.dtype.name == "bfloat16":  # not a type of numpy's own: passed on as its bits
        return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(value.copy())


def operand(value: Value, other: Value) -> Any:
    """`value` for arithmetic with the tensor `other`: a Python number where that broadcasts alike, else a tensor."""
    if isinstance(value, np.ndarray) and isinstance(other, Tensor) and value.size == 1 and value.ndim <= other.ndim:
        return scalar(value, "operand")
    return tensor(value)


def axis_of(axis: int, rank: int) -> int:
    """A possibly negative axis as one in 0 .. rank - 1.

    Raises:
        ValueError: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} does not exist: the input has {rank} axes")
    return axis % rank


def bounded(shape: Sequence[Size]) -> list[Size]:
    """`shape`, if a host array of it is reasonable.

    Raises:
        ValueError: a size is negative, or there are over `HOST_LIMIT` entries.
    """
    count = 1
    for size in shape:
        if size < 0:
            raise ValueError(f"negative size in shape {list(shape)}")
        count = count * size
    if count > HOST_LIMIT:
        raise ValueError(f"shape {list(shape)} has over {HOST_LIMIT} entries")
    return list(shape)


TORCH_DTYPES: Mapping[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
"""Element types that are read, by numpy's names for them."""
