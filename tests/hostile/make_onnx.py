"""Makes ONNX files that reach out of their folder, exhaust memory, or overflow a runtime's stack. Every `Attack` must be refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
Attack = Callable[[Path], bytes]


def model(
    weight: TensorProto | None = None, nodes: list[onnx.NodeProto] | None = None, functions: list[onnx.FunctionProto] | None = None
) -> onnx.ModelProto:
    """y = x + w, or whatever `nodes` make of x."""
    shape = ("N", 4)
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"])]
    inputs, outputs = ([helper.make_tensor_value_info(name, FLOAT, shape)] for name in "xy")
    weights = [numpy_helper.from_array(np.arange(4, dtype=np.float32), "w") if weight is None else weight]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions or [], ir_version=8)


def external(location: str, *, dims: tuple[int, ...] = (4,), kind: int = FLOAT, **entries: Any) -> TensorProto:
    """A weight that keeps its data in another file."""
    tensor = TensorProto(name="w", data_type=kind, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _beside(prepare: Callable[[Path], object], location: str = "w.bin", **entries: Any) -> Attack:
    """A model whose external data `prepare` makes."""

    def make(folder: Path) -> bytes:
        prepare(folder)
        return model(external(location, **entries)).SerializeToString()

    return make


def _outside(folder: Path) -> Path:
    path = folder.parent / "secret.bin"
    path.write_bytes(bytes(16))
    return path


def chain(count: int, *, close: bool = False) -> bytes:
    """Functions f0 to f(count-1), each calling the next; the last calls f0 where `close`."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    functions = []
    for index in range(count):
        last = index == count - 1
        callee = "Relu" if last and not close else f"f{(index + 1) % count}"
        call = helper.make_node(callee, ["a"], ["b"], domain="" if callee == "Relu" else "local")
        functions.append(helper.make_function("local", f"f{index}", ["a"], ["b"], [call], opsets))
    return model(nodes=[helper.make_node("f0", ["x"], ["y"], domain="local")], functions=functions).SerializeToString()


def nested(depth: int) -> bytes:
    """If within If; written from the inside, as bytes, since protobuf copies what it is given and stops at its own limit."""
    output = [helper.make_tensor_value_info("b", FLOAT, ("N", 4))]
    leaf = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "g", [], output)
    branch = leaf.SerializeToString()
    for _ in range(depth):
        branch = helper.make_graph([], "g", [], output).SerializeToString() + _part(1, _either("b", leaf, branch))
    whole = model(nodes=[helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))])
    graph = whole.graph.SerializeToString() + _part(1, _either("y", leaf, branch))
    whole.ClearField("graph")
    return whole.SerializeToString() + _part(7, graph)


def _either(output: str, leaf: onnx.GraphProto, branch: bytes) -> bytes:
    """An If node of which one branch is given as bytes."""
    then = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH).SerializeToString() + _part(6, branch)
    return helper.make_node("If", ["c"], [output], else_branch=leaf).SerializeToString() + _part(5, then)


def _part(field: int, data: bytes) -> bytes:
    """A field of a protobuf message that holds bytes."""
    length, size = bytearray(), len(data)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([field << 3 | 2, *length, size]) + data


def _made_from_nothing(op: str) -> bytes:
    shape = helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(np.array([1 << 20, 1 << 20])))
    inputs = ["s"] if op == "ConstantOfShape" else ["x", "s"]
    return model(nodes=[shape, helper.make_node(op, inputs, ["y"], "blow")]).SerializeToString()


def expanded_by(shape: TensorProto) -> bytes:
    return model(shape, nodes=[helper.make_node("Expand", ["x", "s"], ["y"], "blow")]).SerializeToString()


def _inside_attribute(folder: Path) -> bytes:
    (folder / "w.bin").write_bytes(bytes(16))
    constant = helper.make_node("Constant", [], ["k"], value=external("w.bin"))
    return model(nodes=[constant, helper.make_node("Add", ["x", "k"], ["y"])]).SerializeToString()


def _inside_sparse_attribute(where: str) -> Attack:
    """The values, or the indices, of a sparse constant."""

    def make(folder: Path) -> bytes:
        (folder / "w.bin").write_bytes(bytes(32))
        values, indices = numpy_helper.from_array(np.zeros(4, np.float32), "w"), numpy_helper.from_array(np.arange(4), "i")
        outside = external("w.bin", length=16) if where == "values" else external("w.bin", kind=TensorProto.INT64, length=32)
        sparse = helper.make_sparse_tensor(outside if where == "values" else values, indices if where == "values" else outside, [4])
        constant = helper.make_node("Constant", [], ["k"], sparse_value=sparse)
        return model(nodes=[constant, helper.make_node("Add", ["x", "k"], ["y"])]).SerializeToString()

    return make


def _huge_input(folder: Path) -> bytes:
    proto = model()
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1 << 40
    return proto.SerializeToString()


def _random(op: str) -> bytes:
    return model(nodes=[helper.make_node(op, [], ["y"], "blow", shape=[1 << 20, 1 << 20])]).SerializeToString()


def _with(weight: TensorProto) -> bytes:
    return model(weight).SerializeToString()


OUTSIDE = "must be a plain file name beside the model"
CLOSED = "it is missing, a folder, a symbolic link or closed to us"
NO_FILE = "is a device, a pipe or a hard link"
HUGE = "over 2147483648 elements"
DEEP = "functions call each other in a circle or over 32 deep"

ATTACKS: dict[str, tuple[Attack, str]] = {
    "parent folder": (_beside(_outside, "../secret.bin"), OUTSIDE),
    "absolute path": (lambda folder: _with(external(str(_outside(folder)))), OUTSIDE),
    "path through a folder": (_beside(lambda folder: ((folder / "d").mkdir(), _outside(folder)), "d/../../secret.bin"), OUTSIDE),
    "backslashes": (_beside(_outside, "..\\secret.bin"), OUTSIDE),
    "the folder itself": (_beside(lambda folder: None, "."), OUTSIDE),
    "the folder above": (_beside(lambda folder: None, ".."), OUTSIDE),
    "a name with NUL": (_beside(lambda folder: None, "w.bin\0"), OUTSIDE),
    "no location": (_beside(lambda folder: None, ""), OUTSIDE),
    "symbolic link": (_beside(lambda folder: (folder / "w.bin").symlink_to(_outside(folder))), CLOSED),
    "linked folder": (_beside(lambda folder: ((folder / "d").symlink_to(folder.parent), _outside(folder)), "d/secret.bin"), OUTSIDE),
    "hard link": (_beside(lambda folder: os.link(_outside(folder), folder / "w.bin")), NO_FILE),
    "device": (lambda folder: _with(external("/dev/zero")), OUTSIDE),
    "link to a device": (_beside(lambda folder: (folder / "w.bin").symlink_to("/dev/zero")), CLOSED),
    "pipe": (_beside(lambda folder: os.mkfifo(folder / "w.bin")), NO_FILE),
    "folder": (_beside(lambda folder: (folder / "w.bin").mkdir()), CLOSED),
    "missing": (_beside(lambda folder: None), CLOSED),
    "too short": (_beside(lambda folder: (folder / "w.bin").write_bytes(bytes(15))), "bytes 0 to 16 are missing"),
    "offset behind the end": (_beside(lambda folder: (folder / "w.bin").write_bytes(bytes(16)), offset=8), "bytes 8 to 24 are missing"),
    "negative offset": (
        _beside(lambda folder: (folder / "w.bin").write_bytes(bytes(16)), offset=-8),
        "takes 16 bytes, its external data are 16 from -8",
    ),
    "wrong length": (_beside(lambda folder: (folder / "w.bin").write_bytes(bytes(64)), length=64), "takes 16 bytes, its external data are 64 from 0"),
    "offset in words": (_beside(lambda folder: (folder / "w.bin").write_bytes(bytes(16)), offset="none"), "has the offset 'none'"),
    "in an attribute": (_inside_attribute, "which only weights may"),
    "in the values of a sparse attribute": (_inside_sparse_attribute("values"), "which only weights may"),
    "in the indices of a sparse attribute": (_inside_sparse_attribute("indices"), "which only weights may"),
    "2^40 elements outside": (
        _beside(lambda folder: (folder / "w.bin").write_bytes(bytes(16)), dims=(1 << 20, 1 << 20)),
        "the ONNX model and its external data are over the limit",
    ),
    "2^40 elements inside": (lambda folder: _with(TensorProto(name="w", data_type=FLOAT, dims=(1 << 40,), raw_data=bytes(16))), HUGE),
    "2^40 elements of nothing": (lambda folder: _with(TensorProto(name="w", data_type=FLOAT, dims=(1 << 40,))), HUGE),
    "fewer bytes than said": (lambda folder: _with(TensorProto(name="w", data_type=FLOAT, dims=(4,), raw_data=bytes(15))), "should hold 16 bytes"),
    "fewer numbers than said": (
        lambda folder: _with(TensorProto(name="w", data_type=FLOAT, dims=(4,), float_data=[1])),
        "does not hold what it says",
    ),
    "negative size": (lambda folder: _with(TensorProto(name="w", data_type=FLOAT, dims=(-4,), raw_data=bytes(16))), "has the shape [-4]"),
    "2^40 elements of input": (_huge_input, HUGE),
    "ConstantOfShape": (lambda folder: _made_from_nothing("ConstantOfShape"), HUGE),
    "Expand": (lambda folder: _made_from_nothing("Expand"), HUGE),
    "Expand by a weight": (lambda folder: expanded_by(numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "s")), HUGE),
    "Expand by numbers as such": (lambda folder: expanded_by(helper.make_tensor("s", TensorProto.INT64, [2], [1 << 20, 1 << 20])), HUGE),
    "RandomNormal": (lambda folder: _random("RandomNormal"), HUGE),
    "RandomUniform": (lambda folder: _random("RandomUniform"), HUGE),
    "3000 functions in a chain": (lambda folder: chain(3000), DEEP),
    "33 functions in a chain": (lambda folder: chain(33), DEEP),
    "a function in a circle": (lambda folder: chain(3, close=True), DEEP),
    "deep subgraphs": (lambda folder: nested(31), "it does not parse"),
}
