"""The smallest ONNX model around one operator: what is timed in its place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compresskit.models.latency_operators import Operator
from compresskit.models.sessions import Feeds

_OPSET = 20
_IR_VERSION = 9


@dataclass(frozen=True)
class Probe:
    """A model and what to feed it."""

    model: bytes
    feeds: Feeds


def idle() -> Probe:
    """A model that computes nothing: what any run costs."""
    return _probe([helper.make_node("Identity", ["x"], ["y"])], {"x": (1,)}, {})


def probe(operator: Operator, inputs: int, outputs: int) -> Probe:
    """`operator` at the given widths, with bias and ReLU where ONNX Runtime would run these in the same pass.

    Widths of a grouped convolution are rounded up to multiples of its groups, of a depthwise one to multiples of its multiplier.
    """
    if operator.kind in ("conv", "transposed"):
        return _convolution(operator, inputs, outputs)
    if operator.kind == "linear":
        return _linear(operator, inputs, outputs)
    if operator.kind == "product":
        *leading, rows = operator.shape
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        return _probe([node], {"x": (*leading, rows, inputs), "w": (*leading, inputs, outputs)}, {})
    return _attention(operator, inputs, outputs)


def _convolution(operator: Operator, inputs: int, outputs: int) -> Probe:
    groups = operator.groups or -(-outputs // operator.multiplier)
    into = groups if operator.groups == 0 else _up(inputs, groups)
    out = groups * operator.multiplier if operator.groups == 0 else _up(outputs, groups)
    transposed = operator.kind == "transposed"
    sizes = (into, out // groups) if transposed else (out, into // groups)
    node = helper.make_node(
        "ConvTranspose" if transposed else "Conv",
        ["x", "w", "b"],
        ["c"],
        kernel_shape=operator.kernel,
        strides=operator.stride,
        pads=operator.padding,
        dilations=operator.dilation,
        group=groups,
        output_padding=operator.output_padding or None,  # None: no attribute
    )
    batch, *space = operator.shape
    weights = {"w": (*sizes, *operator.kernel), "b": (out,)}
    return _probe([node, helper.make_node("Relu", ["c"], ["y"])], {"x": (batch, into, *space)}, weights)


def _linear(operator: Operator, inputs: int, outputs: int) -> Probe:
    """As the exporter writes it: Gemm for one leading size, else MatMul and Add."""
    weights = {"w": (inputs, outputs), "b": (outputs,)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    if len(operator.shape) == 1:
        weights["w"] = (outputs, inputs)
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    return _probe(nodes, {"x": (*operator.shape, inputs)}, weights)


def _attention(operator: Operator, inputs: int, outputs: int) -> Probe:
    """As the exporter writes it."""
    *leading, queries, keys = operator.shape
    order = [*range(len(leading)), len(leading) + 1, len(leading)]
    nodes = [
        helper.make_node("Mul", ["q", "s"], ["qs"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=order),
        helper.make_node("MatMul", ["qs", "kt"], ["a"]),
        helper.make_node("Softmax", ["a"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
    ]
    feeds = {"q": (*leading, queries, inputs), "k": (*leading, keys, inputs), "v": (*leading, keys, outputs)}
    return _probe(nodes, feeds, {"s": (1,)})


def _probe(nodes: list[onnx.NodeProto], feeds: dict[str, tuple[int, ...]], weights: dict[str, tuple[int, ...]]) -> Probe:
    """A model of `nodes`, with random numbers of the given shapes."""
    draw = partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    arrays = {name: np.asarray(draw(shape) * 0.1) for name, shape in (feeds | weights).items()}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in feeds.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "probe", inputs, [output], [numpy_helper.from_array(arrays[name], name) for name in weights])
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)])
    return Probe(model.SerializeToString(), {name: arrays[name] for name in feeds})


def _up(width: int, groups: int) -> int:
    """`width`, rounded up to a multiple of `groups`."""
    return -(-width // groups) * groups
