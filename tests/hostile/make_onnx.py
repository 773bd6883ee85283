"""Makes ONNX files that reach out of their folder, exhaust memory, or overflow a runtime's stack. Every `Attack` must be refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

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


def external(location: str, *, dims: tuple[int, ...] = (4,), **entries: int) -> TensorProto:
    """A weight that keeps its data in another file."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _beside(prepare: Callable[[Path], object], location: str = "w.bin", **entries: int) -> Attack:
    """A model whose external data `prepare` makes."""

    def make(folder: Path) -> bytes:
        prepare(folder)
        return model(external(location, **entries)).SerializeToString()

    return make


def _outside(folder: Path) -> Path:
    path = folder.parent / "secret.bin"
    path.write_bytes(bytes(16))
    return path


def _chain(count: int, *, close: bool = False) -> bytes:
    """Functions f0 to f(count-1), each calling the next; the last calls f0 where `close`."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    functions = []
    for index in range(count):
        last = index == count - 1
        callee = "Relu" if last and not close else f"f{(index + 1) % count}"
        call = helper.make_node(callee, ["a"], ["b"], domain="" if callee == "Relu" else "local")
        functions.append(helper.make_function("local", f"f{index}", ["a"], ["b"], [call], opsets))
    return model(nodes=[helper.make_node("f0", ["x"], ["y"], domain="local")], functions=functions).SerializeToString()


def _nested(depth: int) -> bytes:
    """If within If; written from the inside, since protobuf copies what it is given."""
    output = [helper.make_tensor_value_info("b", FLOAT, ("N", 4))]
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "g", [], output)
    for _ in range(depth):
        branch = helper.make_node("If", ["c"], ["b"], then_branch=inner, else_branch=inner if depth < 8 else None)
        inner = helper.make_graph([branch], "g", [], output)
    condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    return model(nodes=[condition, helper.make_node("If", ["c"], ["y"], then_branch=inner)]).SerializeToString()


def _made_from_nothing(op: str) -> bytes:
    shape = helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(np.array([1 << 20, 1 << 20])))
    inputs = ["s"] if op == "ConstantOfShape" else ["x", "s"]
    return model(nodes=[shape, helper.make_node(op, inputs, ["y"], "blow")]).SerializeToString()


def _inside_attribute(folder: Path) -> bytes:
    (folder / "w.bin").write_bytes(bytes(16))
    constant = helper.make_node("Constant", [], ["k"], value=external("w.bin"))
    return model(nodes=[constant, helper.make_node("Add", ["x", "k"], ["y"])]).SerializeToString()


def _huge_input(folder: Path) -> bytes:
    proto = model()
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1 << 40
    return proto.SerializeToString()


ATTACKS: dict[str, Attack] = {
    "parent folder": _beside(_outside, "../secret.bin"),
    "absolute path": lambda folder: model(external(str(_outside(folder)))).SerializeToString(),
    "path through a folder": _beside(lambda folder: ((folder / "d").mkdir(), _outside(folder)), "d/../../secret.bin"),
    "backslashes": _beside(_outside, "..\\secret.bin"),
    "symbolic link": _beside(lambda folder: (folder / "w.bin").symlink_to(_outside(folder))),
    "linked folder": _beside(lambda folder: ((folder / "d").symlink_to(folder.parent), _outside(folder)), "d/secret.bin"),
    "hard link": _beside(lambda folder: os.link(_outside(folder), folder / "w.bin")),
    "device": lambda folder: model(external("/dev/zero")).SerializeToString(),
    "link to a device": _beside(lambda folder: (folder / "w.bin").symlink_to("/dev/zero")),
    "pipe": _beside(lambda folder: os.mkfifo(folder / "w.bin")),
    "folder": _beside(lambda folder: (folder / "w.bin").mkdir()),
    "missing": _beside(lambda folder: None),
    "no location": _beside(lambda folder: None, ""),
    "too short": _beside(lambda folder: (folder / "w.bin").write_bytes(bytes(15))),
    "offset behind the end": _beside(lambda folder: (folder / "w.bin").write_bytes(bytes(16)), offset=8),
    "negative offset": _beside(lambda folder: (folder / "w.bin").write_bytes(bytes(16)), offset=-8),
    "wrong length": _beside(lambda folder: (folder / "w.bin").write_bytes(bytes(64)), length=64),
    "in an attribute": _inside_attribute,
    "2^40 elements outside": _beside(lambda folder: (folder / "w.bin").write_bytes(bytes(16)), dims=(1 << 20, 1 << 20)),
    "2^40 elements inside": lambda folder: model(TensorProto(name="w", data_type=FLOAT, dims=(1 << 40,), raw_data=bytes(16))).SerializeToString(),
    "2^40 elements of nothing": lambda folder: model(TensorProto(name="w", data_type=FLOAT, dims=(1 << 40,))).SerializeToString(),
    "negative size": lambda folder: model(TensorProto(name="w", data_type=FLOAT, dims=(-4,), raw_data=bytes(16))).SerializeToString(),
    "2^40 elements of input": _huge_input,
    "ConstantOfShape": lambda folder: _made_from_nothing("ConstantOfShape"),
    "Expand": lambda folder: _made_from_nothing("Expand"),
    "3000 functions in a chain": lambda folder: _chain(3000),
    "a function in a circle": lambda folder: _chain(3, close=True),
    "deep subgraphs": lambda folder: _nested(30),
}
