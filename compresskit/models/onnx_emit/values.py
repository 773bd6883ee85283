"""What an fx node becomes in the ONNX graph.

Value(name, shape, dtype)        a tensor computed at run time, or (with `data`) one that is known now: an initializer
int                              a size that is known now
Size(name)                       a size that follows the batch: a one-element int64 tensor at run time
tuple                            of these (chunk, split, unbind)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper

from compresskit.models.onnx_emit.trace import Dim


@dataclass(frozen=True)
class Value:
    """A tensor of the ONNX graph. `data` is its content where that does not depend on the inputs."""

    name: str
    shape: tuple[Dim, ...]
    dtype: torch.dtype
    data: torch.Tensor | None = field(default=None, compare=False)

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class Size:
    """A size that follows the batch, as a tensor of shape (1,)."""

    name: str


def known(name: str, tensor: torch.Tensor) -> Value:
    """A tensor that is known now."""
    return Value(name, tuple(tensor.shape), tensor.dtype, tensor)


def onnx_dtype(dtype: torch.dtype) -> int:
    """The ONNX element type of a torch one."""
    names = {torch.float64: "DOUBLE", torch.float32: "FLOAT", torch.float16: "FLOAT16", torch.bfloat16: "BFLOAT16", torch.bool: "BOOL"}
    return onnx.TensorProto.DataType.Value(names.get(dtype, str(dtype).removeprefix("torch.").upper()))


def tensor_proto(tensor: torch.Tensor, name: str) -> onnx.TensorProto:
    """An initializer."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:  # numpy has no such type
        return helper.make_tensor(name, onnx.TensorProto.BFLOAT16, tensor.shape, tensor.view(torch.int16).numpy().tobytes(), raw=True)
    return numpy_helper.from_array(tensor.numpy(), name)


def is_known(value: Any) -> bool:
    """Whether a node's value is known now."""
    if isinstance(value, tuple):
        return all(is_known(item) for item in value)
    return value.data is not None if isinstance(value, Value) else not isinstance(value, Size)


def data_of(value: Any) -> Any:
    """The value that is known now, as torch takes it."""
    if isinstance(value, tuple):
        return tuple(data_of(item) for item in value)
    return value.data if isinstance(value, Value) else value
