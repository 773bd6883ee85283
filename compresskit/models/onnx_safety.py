"""ONNX files from strangers: read whole, checked before anything runs them, and never a byte from outside their folder.

Refused: external data that is not a plain file beside the model (another folder, a link of either kind, a device), sizes that
the file does not hold, tensors that a few bytes would blow up, and call chains or subgraphs deep enough to exhaust a runtime's stack.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import onnx
import onnx.numpy_helper
from google.protobuf.message import DecodeError

from compresskit.errors import InputError
from compresskit.models.graph import ELEMENTS
from compresskit.wording import first_line

Graph: TypeAlias = onnx.GraphProto | onnx.FunctionProto

MAX_BYTES = 2**31 - 1  # what one protobuf message can hold
_PLAINLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # no symbolic link, no waiting for a pipe
_MAX_NODES = 100_000
_MAX_DEPTH = 32  # of functions calling functions

_BITS: dict[int, int] = {
    **dict.fromkeys((onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64, onnx.TensorProto.UINT64, onnx.TensorProto.COMPLEX64), 64),
    **dict.fromkeys((onnx.TensorProto.FLOAT, onnx.TensorProto.INT32, onnx.TensorProto.UINT32), 32),
    **dict.fromkeys((onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT16, onnx.TensorProto.UINT16), 16),
    **dict.fromkeys((onnx.TensorProto.INT4, onnx.TensorProto.UINT4), 4),
    **dict.fromkeys((onnx.TensorProto.INT2, onnx.TensorProto.UINT2), 2),
    onnx.TensorProto.COMPLEX128: 128,
}  # every other fixed-size type has 8


def read_onnx(data: bytes, *, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> onnx.ModelProto:
    """An ONNX model with its external data brought in, checked by onnx's own checker.

    Args:
        data: the file.
        folder: where its external data may lie; None (standard input): nowhere.
        max_bytes: of the model and its external data together.

    Raises:
        InputError: it is damaged, invalid, or one of the attacks above.
    """
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise InputError("the ONNX file is damaged or truncated: it does not parse") from error
    if not model.HasField("graph"):
        raise InputError("the ONNX file is damaged or truncated: it has no graph")
    _check_calls(model)
    graphs = list(_nested([model.graph, *model.functions]))
    if sum(len(graph.node) for graph in graphs) > _MAX_NODES:
        raise InputError(f"the ONNX model has more than {_MAX_NODES} nodes")
    for graph in graphs:
        _check_declared(graph)
    room = max_bytes - len(data)
    for tensor, bare in _tensors(model, graphs):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            if not bare:
                raise InputError(f"tensor {tensor.name!r} keeps its data outside the file, which only weights may")
            room -= _bring_in(tensor, folder, room)
        _check_contents(tensor)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, but also ValueError and RuntimeError of the C++ part
        raise InputError(f"onnx's checker refuses the model: {first_line(error)}") from error
    return model


def _check_calls(model: onnx.ModelProto) -> None:
    """Refuse functions that call themselves or chain deeper than `_MAX_DEPTH`: runtimes inline them recursively."""
    remaining = {(function.domain, function.name): _called(function) for function in model.functions}
    for _ in range(_MAX_DEPTH):
        remaining = {name: called for name, called in remaining.items() if called & remaining.keys()}
    if remaining:
        raise InputError(f"the ONNX model's functions call each other in a circle or over {_MAX_DEPTH} deep")


def _called(function: onnx.FunctionProto) -> set[tuple[str, str]]:
    return {(node.domain, node.op_type) for graph in _nested([function]) for node in graph.node}


def _nested(level: list[Graph]) -> Iterator[Graph]:
    """Graphs and every graph within them: at most 32 deep, since protobuf reads no message that is over 100 deep in others."""
    while level:
        yield from level
        attributes = [attribute for graph in level for node in graph.node for attribute in node.attribute]
        level = [inner for attribute in attributes for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ()))]


def _tensors(model: onnx.ModelProto, graphs: list[Graph]) -> Iterator[tuple[onnx.TensorProto, bool]]:
    """Every tensor in the model, and whether it is a plain weight."""
    for graph in graphs:
        if isinstance(graph, onnx.GraphProto):
            yield from ((tensor, True) for tensor in graph.initializer)
            yield from ((tensor, False) for sparse in graph.sparse_initializer for tensor in (sparse.values, sparse.indices))
        for node in graph.node:
            for attribute in node.attribute:
                sparse = [*attribute.sparse_tensors, *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else ())]
                yield from ((tensor, False) for item in sparse for tensor in (item.values, item.indices))
                yield from ((tensor, False) for tensor in (*attribute.tensors, *([attribute.t] if attribute.HasField("t") else ())))


def _check_declared(graph: Graph) -> None:
    """Refuse shapes that no machine holds, in declarations and in the constants from which nodes make tensors."""
    values = (*graph.input, *graph.output, *graph.value_info) if isinstance(graph, onnx.GraphProto) else tuple(graph.value_info)
    for value in values:
        _check_size(value.name, [max(1, dim.dim_value) for dim in value.type.tensor_type.shape.dim])
    constants = _constants(graph)
    for node in graph.node:
        slot = {"ConstantOfShape": 0, "Expand": 1}.get(node.op_type)
        if slot is not None and len(node.input) > slot and node.input[slot] in constants:
            _check_size(node.name, _integers(constants[node.input[slot]]))
        for attribute in node.attribute:
            if node.op_type in ("RandomNormal", "RandomUniform") and attribute.name == "shape":
                _check_size(node.name, list(attribute.ints))


def _constants(graph: Graph) -> dict[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer} if isinstance(graph, onnx.GraphProto) else {}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            found.update((node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value")
    return found


def _integers(tensor: onnx.TensorProto) -> list[int]:
    """The numbers in a small int64 tensor; none of what is not one."""
    if tensor.data_type != onnx.TensorProto.INT64 or len(tensor.raw_data) > 1 << 10 or len(tensor.int64_data) > 1 << 7:
        return []
    raw = tensor.raw_data
    return [int.from_bytes(raw[at : at + 8], "little", signed=True) for at in range(0, len(raw), 8)] or list(tensor.int64_data)


def _check_size(name: str, shape: list[int]) -> None:
    if math.prod(max(0, size) for size in shape) > ELEMENTS:
        raise InputError(f"{name!r} would have the shape {shape}: over {ELEMENTS} elements")


def _check_contents(tensor: onnx.TensorProto) -> None:
    """Make sure that a tensor holds as much data as its shape says."""
    expected = _nbytes(tensor)
    _check_size(tensor.name, list(tensor.dims))
    if tensor.HasField("raw_data"):
        if expected != len(tensor.raw_data):
            raise InputError(f"tensor {tensor.name!r} of shape {list(tensor.dims)} should hold {expected} bytes, it holds {len(tensor.raw_data)}")
        return
    try:
        onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # numpy's and onnx's own, by type and shape
        raise InputError(f"tensor {tensor.name!r} of shape {list(tensor.dims)} does not hold what it says: {first_line(error)}") from error


def _nbytes(tensor: onnx.TensorProto) -> int:
    """What a tensor's shape and type take, packed as ONNX does."""
    if any(size < 0 for size in tensor.dims):
        raise InputError(f"tensor {tensor.name!r} has the shape {list(tensor.dims)}")
    return (math.prod(tensor.dims) * _BITS.get(tensor.data_type, 8) + 7) // 8


def _bring_in(tensor: onnx.TensorProto, folder: Path | None, room: int) -> int:
    """Put a tensor's external data into it; return how many bytes.

    Raises:
        InputError: the data lies elsewhere than in a plain file beside the model, is too short, or more than `room`.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, size = entries.get("location", ""), _nbytes(tensor)
    if folder is None:
        raise InputError(f"tensor {tensor.name!r} lies in {location!r}, and a model on the standard input has no folder: name its file instead")
    if location in ("", ".", "..") or Path(location).name != location or "\\" in location or "\0" in location:
        raise InputError(f"tensor {tensor.name!r} lies in {location!r}: external data must be a plain file name beside the model")
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or size)
    except ValueError as error:
        raise InputError(f"tensor {tensor.name!r} has the offset {entries.get('offset')!r} and length {entries.get('length')!r}") from error
    if length != size or offset < 0:
        raise InputError(f"tensor {tensor.name!r} of shape {list(tensor.dims)} takes {size} bytes, its external data are {length} from {offset}")
    if size > room:
        raise InputError("the ONNX model and its external data are over the limit: raise --max-bytes if that is right")
    tensor.raw_data = _read_plain(folder / location, offset, size)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    return size


def _read_plain(path: Path, offset: int, size: int) -> bytes:
    """`size` bytes at `offset` of a regular file with one name."""
    try:
        stream = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _PLAINLY))  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(f"external data {path.name!r} cannot be read: it is missing, a folder, a symbolic link or closed to us") from error
    with stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise InputError(f"external data {path.name!r} is a device, a pipe or a hard link: it must be a plain file; copy it")
        if offset + size > status.st_size:
            raise InputError(f"external data {path.name!r} has {status.st_size} bytes: bytes {offset} to {offset + size} are missing")
        stream.seek(offset)
        return stream.read(size)
