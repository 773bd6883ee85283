"""ONNX protobuf to plain values: nodes with decoded attributes, constants as arrays, inputs as specs. Believes no size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from compresskit.errors import InputError
from compresskit.models.graph import ELEMENTS, TensorSpec
from compresskit.models.onnx_ops.values import OPS, TORCH_DTYPES, Node
from compresskit.wording import first_line

OPSETS = range(7, 26)
"""Versions of the operator set whose meaning the handlers know; 6 and below broadcast by attributes. What is read of 25 differs from 24 in
element types alone: 2-bit integers, for which `quantize` asks for it."""

_PLAIN_DOMAINS = ("", "ai.onnx")


def opset_of(model: onnx.ModelProto, source: str) -> int:
    """The version of ONNX's own operator set that the model asks for.

    Raises:
        InputError: none, or one that is not read.
    """
    versions = [entry.version for entry in model.opset_import if entry.domain in _PLAIN_DOMAINS]
    if not versions or versions[0] not in OPSETS:
        found = f"opset {versions[0]}" if versions else "no opset"
        raise InputError(f"{source}: {found}; opsets {OPSETS[0]} to {OPSETS[-1]} are read: convert it with onnx.version_converter")
    return versions[0]


def read_nodes(model: onnx.ModelProto, source: str) -> tuple[Node, ...]:
    """Every node of the main graph, in the file's order, each with a name.

    Raises:
        InputError: an operator has no handler (all such are named at once), or an attribute cannot be read.
    """
    opset = opset_of(model, source)
    missing: dict[str, str] = {}
    for index, proto in enumerate(model.graph.node):
        plain = proto.domain in _PLAIN_DOMAINS
        if not plain or proto.op_type not in OPS or not proto.op_type[:1].isupper():
            missing.setdefault(proto.op_type if plain else f"{proto.domain}.{proto.op_type}", _name(proto, index))
    if missing:
        which = ", ".join(f"{kind} (node {name!r})" for kind, name in missing.items())
        raise InputError(f"{source}: operators that are not supported: {which}; export a model without them")
    return tuple(
        Node(_name(proto, index), proto.op_type, opset, tuple(proto.input), tuple(proto.output), _attributes(proto, _name(proto, index), source))
        for index, proto in enumerate(model.graph.node)
    )


def _name(proto: onnx.NodeProto, index: int) -> str:
    return proto.name or f"{proto.op_type}_{index}"


def _attributes(proto: onnx.NodeProto, name: str, source: str) -> Mapping[str, Any]:
    decoded = {}
    for attribute in proto.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, onnx.TensorProto):
            value = read_tensor(value, f"{source}: attribute {attribute.name!r} of node {name!r}")
        elif not isinstance(value, int | float | list):
            raise InputError(f"{source}: attribute {attribute.name!r} of node {name!r} is of a kind that is not supported")
        decoded[attribute.name] = value
    return decoded


def read_initializers(model: onnx.ModelProto, source: str) -> dict[str, np.ndarray]:
    """The stored tensors by name.

    Raises:
        InputError: one is sparse, kept outside the file, of an element type that is not read, or not as long as its shape says.
    """
    if model.graph.sparse_initializer:
        raise InputError(f"{source}: sparse initializer {model.graph.sparse_initializer[0].values.name!r}: sparse tensors are not supported")
    return {proto.name: read_tensor(proto, f"{source}: initializer {proto.name!r}") for proto in model.graph.initializer}


def read_tensor(proto: onnx.TensorProto, what: str) -> np.ndarray:
    """One stored tensor, its bytes counted before its shape is believed.

    Raises:
        InputError: see `read_initializers`.
    """
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        raise InputError(f"{what} has its data in another file, which was not loaded: save the model with its data inside")
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(proto.data_type)
    except (KeyError, TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.name not in TORCH_DTYPES:
        kind = {number: name for name, number in onnx.TensorProto.DataType.items()}.get(proto.data_type, proto.data_type)
        raise InputError(f"{what} has element type {kind}, which is not supported")
    count = math.prod(proto.dims)
    if any(size < 0 for size in proto.dims) or count > ELEMENTS:
        raise InputError(f"{what} has the impossible shape {list(proto.dims)}")
    try:
        if proto.HasField("raw_data") and len(proto.raw_data) != count * dtype.itemsize:
            raise ValueError(f"{len(proto.raw_data)} bytes")
        array = onnx.numpy_helper.to_array(proto)
        if array.shape != tuple(proto.dims):
            raise ValueError(f"shape {list(array.shape)}")
    except (ValueError, TypeError) as error:
        raise InputError(f"{what}: its data does not fill its shape {list(proto.dims)}: {first_line(error)}") from error
    return array


def read_inputs(model: onnx.ModelProto, source: str, input_shape: tuple[int, ...] | None) -> tuple[TensorSpec, ...]:
    """What the graph takes, constants left out; sizes that the file leaves open are None.

    Args:
        input_shape: sizes behind the batch axis of the first input, where the file leaves them open.

    Raises:
        InputError: an input is no plain tensor, or a size other than the batch is open or absurd.
    """
    stored = {proto.name for proto in model.graph.initializer}
    specs: list[TensorSpec] = []
    for proto in model.graph.input:
        if proto.name not in stored:
            specs.append(_spec(proto, source, input_shape if not specs else None))
    if not specs:
        raise InputError(f"{source}: the graph has no input")
    return tuple(specs)


def _spec(proto: onnx.ValueInfoProto, source: str, input_shape: tuple[int, ...] | None) -> TensorSpec:
    what = f"{source}: input {proto.name!r}"
    kind = proto.type.tensor_type
    if proto.type.WhichOneof("value") != "tensor_type":
        raise InputError(f"{what} is not a tensor")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type in onnx.TensorProto.DataType.values() else None
    if dtype is None or dtype.name not in TORCH_DTYPES:
        raise InputError(f"{what} has an element type that is not supported")
    sizes: list[int | None] = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim]
    if not kind.HasField("shape") and input_shape is not None:
        sizes = [None] * (1 + len(input_shape))
    if input_shape is not None:
        if len(sizes) != 1 + len(input_shape) or any(have not in (None, given) for have, given in zip(sizes[1:], input_shape, strict=True)):
            raise InputError(f"{what} has shape {_written(sizes)}: {_written(list(input_shape))} behind the batch does not fit it")
        sizes[1:] = input_shape
    if None in sizes[1:] or (not kind.HasField("shape") and input_shape is None):
        raise InputError(f"{what} leaves sizes open ({_written(sizes) or 'all'}): say them with --input, such as --input 3,224,224")
    if math.prod(size or 1 for size in sizes) > ELEMENTS:
        raise InputError(f"{what} has the absurd shape {_written(sizes)}")
    return TensorSpec(proto.name, tuple(sizes), TORCH_DTYPES[dtype.name])


def _written(sizes: list[int | None] | list[int]) -> str:
    return ",".join("?" if size is None else str(size) for size in sizes)
