"""Single operators: what the importer runs equals what ONNX Runtime runs, over attributes, opsets and shapes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compresskit.errors import InputError
from compresskit.models.onnx_in import Interpreter
from compresskit.models.onnx_parse import read_initializers, read_inputs, read_nodes
from compresskit.models.onnx_plan import plan

X = (2, 6, 5, 4)
END = 2**63 - 1


@dataclass(frozen=True)
class Case:
    """One node: data `x` of a shape first, then constants (None: absent)."""

    op: str
    shape: tuple[int, ...]
    opset: int
    constants: tuple[Any, ...] = ()
    outputs: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)

    def model(self) -> onnx.ModelProto:
        stored = {f"c{i}": np.asarray(value) for i, value in enumerate(self.constants) if value is not None}
        names = ["x", *(f"c{i}" if value is not None else "" for i, value in enumerate(self.constants))]
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, name="it", **self.attributes)
        anything = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_value_info(name, anything) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in stored.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def case(op: str, shape: tuple[int, ...], opset: int, *constants: Any, outputs: int = 1, **attributes: Any) -> Case:
    return Case(op, shape, opset, constants, outputs, attributes)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def convolutions() -> Iterator[Case]:
    weight, bias = floats(4, 3, 3, 3), floats(4)
    for pads, stride, dilation in itertools.product(([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 1]), (1, 2), (1, 2)):
        yield case("Conv", (2, 3, 9, 8), 11, weight, bias, pads=pads, strides=[stride] * 2, dilations=[dilation] * 2)
    for mode, stride in itertools.product(("SAME_UPPER", "SAME_LOWER", "VALID"), (1, 2, 3)):
        yield case("Conv", (1, 3, 9, 8), 11, weight, auto_pad=mode, strides=[stride] * 2)
        yield case("ConvTranspose", (1, 3, 5, 4), 11, floats(3, 2, 3, 3), auto_pad=mode, strides=[stride] * 2)
    yield case("Conv", (1, 4, 9), 11, floats(6, 2, 3), group=2)
    yield case("Conv", (1, 2, 5, 4, 3), 11, floats(3, 2, 2, 2, 2))
    for pads, extra, stride in itertools.product(([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0], [0, 1, 2, 1]), ([0, 0], [1, 0]), (2, 3)):
        yield case("ConvTranspose", (1, 3, 5, 4), 11, floats(3, 2, 3, 3), floats(2), pads=pads, output_padding=extra, strides=[stride] * 2)
    for shape in ([10, 8], [9, 9], [11, 8]):
        yield case("ConvTranspose", (1, 3, 5, 4), 11, floats(3, 2, 3, 3), strides=[2, 2], output_shape=shape)
    yield case("ConvTranspose", (1, 4, 5, 4), 11, floats(4, 2, 3, 3), group=2, dilations=[2, 2], pads=[1, 1, 1, 1])


def pools() -> Iterator[Case]:
    paddings = ([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0], [2, 2, 2, 2])
    for pads, ceil, stride in itertools.product(paddings, (0, 1), (1, 2, 3)):
        settings = {"kernel_shape": [3, 3], "strides": [stride] * 2, "pads": pads, "ceil_mode": ceil}
        yield case("MaxPool", (1, 2, 8, 7), 11, **settings)
        if pads[:2] == pads[2:] or not ceil:
            for opset, counted in itertools.product((11, 19), (0, 1)):
                yield case("AveragePool", (1, 2, 8, 7), opset, count_include_pad=counted, **settings)
    for op, mode, stride in itertools.product(("MaxPool", "AveragePool"), ("SAME_UPPER", "SAME_LOWER", "VALID"), (1, 2)):
        yield case(op, (1, 3, 9, 8), 11, kernel_shape=[3, 2], auto_pad=mode, strides=[stride] * 2)
    yield case("MaxPool", (1, 2, 8, 7), 11, kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 0, 1, 0])
    yield case("MaxPool", (1, 2, 8), 11, kernel_shape=[2], pads=[0, 1])
    for shape in (X, (2, 3, 4)):
        yield from (case(op, shape, 9) for op in ("GlobalAveragePool", "GlobalMaxPool"))


def resizes() -> Iterator[Case]:
    places = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    scales = ([1, 1, 2, 2], [1, 1, 0.5, 0.5], [1, 1, 1.5, 0.7], [1, 1, 0.6, 0.3])
    sizes = ([1, 2, 12, 10], [1, 2, 3, 2], [1, 2, 1, 7])
    for place, rounding in itertools.product(places, ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")):
        settings = {"mode": "nearest", "coordinate_transformation_mode": place, "nearest_mode": rounding}
        yield from (case("Resize", (1, 2, 6, 5), 13, None, np.array(scale, np.float32), **settings) for scale in scales)
        yield from (case("Resize", (1, 2, 6, 5), 18, None, None, ints(*size[2:]), axes=[2, 3], **settings) for size in sizes)
    for place in places:
        settings = {"mode": "linear", "coordinate_transformation_mode": place}
        yield from (case("Resize", (1, 2, 6, 5), 13, None, np.array(scale, np.float32), **settings) for scale in scales)
        yield from (case("Resize", (1, 2, 6, 5), 11, floats(0), floats(0), ints(*size), **settings) for size in sizes)
    for place in ("half_pixel", "align_corners"):
        yield case("Resize", (1, 2, 6, 5), 13, None, np.array(scales[0], np.float32), mode="cubic", coordinate_transformation_mode=place)
    for mode, scale in itertools.product(("nearest", "linear"), ([1, 1, 2, 2], [1, 1, 1.5, 1.2])):
        yield case("Upsample", (1, 2, 6, 5), 7, mode=mode, scales=[float(value) for value in scale])
        yield case("Upsample", (1, 2, 6, 5), 9, np.array(scale, np.float32), mode=mode)
        yield case("Resize", (1, 2, 6, 5), 10, np.array(scale, np.float32), mode=mode)
        yield case("Resize", (1, 2, 6, 5), 10, np.array([1, 1, 0.5, 0.4], np.float32), mode=mode)


def rearrangements() -> Iterator[Case]:
    for mode, pads in itertools.product(("constant", "reflect", "edge", "wrap"), ([0, 0, 1, 2, 0, 0, 2, 1], [0, 0, 0, 1, 0, 0, 0, 0], [0] * 8)):
        yield case("Pad", X, 19, ints(*pads), mode=mode)
        if mode != "wrap":
            yield case("Pad", X, 9, pads=pads, mode=mode)
            yield case("Pad", X, 18, ints(*pads[2:4], *pads[6:]), None, ints(-2, -1), mode=mode)
    yield case("Pad", X, 11, ints(0, 1, 0, 0, 0, 2, -1, 0), np.float32(1.5))
    yield case("Pad", X, 9, pads=[0, 1, 0, 0, 0, 2, 0, 0], value=2.5)
    bounds = ((0, END, 1, 1), (-3, END, 1, 1), (-1, -END, 1, -1), (4, 0, 1, -2), (3, -100, 2, -1), (-100, 3, -1, 1), (1, 100, 2, 2))
    yield from (case("Slice", X, 13, *(ints(value) for value in bound)) for bound in bounds)
    yield case("Slice", X, 13, ints(1, 0), ints(-1, 2), ints(2, 3), ints(2, 1))
    yield case("Slice", X, 9, starts=[1, 1], ends=[END, 3])
    yield case("Slice", X, 13, ints(1), ints(2))
    indices = (np.int64(1), np.int64(-1), ints(1), ints(0, 2, 4), ints(3, 1), ints(-1, 0), ints([0, 1], [2, 3]), ints(5, 0, 0))
    yield from (case("Gather", X, 13, index, axis=axis) for index in indices for axis in (1, -3))
    yield case("GatherElements", (3, 4), 13, ints([0, -1, 2, 1]), axis=0)
    yield case("Split", X, 11, outputs=3, axis=1)
    yield case("Split", X, 11, outputs=2, axis=1, split=[1, 5])
    yield case("Split", X, 13, ints(4, 2), outputs=2, axis=-3)
    yield case("Split", (2, 7), 18, outputs=3, axis=1, num_outputs=3)
    yield from (case("Squeeze", (2, 1, 3, 1), 11, **kind) for kind in ({}, {"axes": [1, -1]}))
    yield from (case("Squeeze", (2, 1, 3, 1), 13, *axes) for axes in ((), (ints(1),)))
    yield case("Unsqueeze", (2, 3), 11, axes=[0, -1])
    yield case("Unsqueeze", (2, 3), 13, ints(3, 0))
    yield case("Expand", (2, 1, 4), 13, ints(3, 1, 5, 1))
    yield case("Expand", (2, 1, 4), 13, ints(3, 4))
    yield case("Tile", (2, 3), 13, ints(2, 3))
    yield from (case("Reshape", X, 13, target) for target in (ints(0, -1, 4), ints(2, 3, 2, 5, 4)))
    yield from (case("Flatten", X, 13, axis=axis) for axis in (-1, 0, 1, 2, 4))
    yield from (case("Transpose", X, 13, **kind) for kind in ({}, {"perm": [0, 2, 3, 1]}))
    yield from (case("DepthToSpace", (2, 8, 3, 2), 13, blocksize=2, mode=mode) for mode in ("DCR", "CRD"))
    yield case("SpaceToDepth", (2, 3, 4, 6), 13, blocksize=2)
    yield case("Concat", X, 13, floats(2, 1, 5, 4), floats(2, 2, 5, 4), axis=1)
    yield case("Concat", X, 13, floats(2, 1, 5, 4), axis=-3)
    yield case("Trilu", (2, 4, 5), 14)
    yield case("Trilu", (2, 4, 5), 14, np.int64(-1), upper=0)


def products() -> Iterator[Case]:
    additions = (None, floats(5), floats(3, 5), floats(1), floats(3, 1), np.float32(2))
    for left, right, added, scale in itertools.product((0, 1), (0, 1), additions, (1.0, 0.5)):
        weight = floats(5, 4) if right else floats(4, 5)
        constants = (weight,) if added is None else (weight, added)
        yield case("Gemm", (4, 3) if left else (3, 4), 11, *constants, transA=left, transB=right, alpha=scale, beta=scale * 2)
    shapes = (((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((4,), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((3, 4), (4,)), ((2, 2, 3, 4), (2, 4, 5)))
    yield from (case("MatMul", shape, 13, floats(*other)) for shape, other in shapes)
    yield case("Einsum", (2, 3, 4), 12, floats(2, 4, 5), equation="bij, bjk -> bik")


def normalizations() -> Iterator[Case]:
    statistics = (floats(6), floats(6), floats(6), np.abs(floats(6)) + 0.1)
    yield from (case("BatchNormalization", X, opset, *statistics, epsilon=1e-3) for opset in (7, 9, 14, 15))
    yield case("BatchNormalization", (3, 6), 9, *statistics)
    yield case("InstanceNormalization", X, 9, floats(6), floats(6))
    yield case("LayerNormalization", X, 17, floats(4), floats(4))
    yield case("LayerNormalization", X, 17, floats(5, 4), axis=-2)
    yield case("GroupNormalization", X, 18, floats(3), floats(3), num_groups=3)
    yield case("GroupNormalization", X, 21, floats(6), floats(6), num_groups=3)
    yield case("LRN", X, 13, size=3, alpha=0.1, beta=0.5, bias=2.0)
    yield case("LpNormalization", X, 11, axis=1)
    yield case("LpNormalization", X, 11, p=1)
    for op, opset, axis in itertools.product(("Softmax", "LogSoftmax"), (9, 11, 13), (None, 0, 1, 3, -2)):
        yield case(op, X, opset, **({} if axis is None else {"axis": axis}))


def reductions() -> Iterator[Case]:
    names = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"]
    for name, keep in itertools.product(names, (0, 1)):
        yield case(f"Reduce{name}", X, 11, axes=[2, -1], keepdims=keep)
        yield case(f"Reduce{name}", X, 11, keepdims=keep)
        yield case(f"Reduce{name}", X, 18, ints(1, 3), keepdims=keep)
        yield case(f"Reduce{name}", X, 18, ints(), keepdims=keep)
    yield case("ReduceMean", X, 18, noop_with_empty_axes=1)
    yield case("CumSum", X, 14, np.int64(1))


def pointwise() -> Iterator[Case]:
    signs = ("Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Identity", "Reciprocal", "Exp", "Erf", "Sin", "Cos", "Atan")
    curves = ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Elu", "Celu", "Selu", "LeakyRelu", "HardSigmoid")
    yield from (case(op, X, 13) for op in signs + curves)
    yield from (case(op, X, 13, alpha=0.3) for op in ("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "HardSigmoid"))
    yield case("Selu", X, 13, alpha=1.0, gamma=2.0)
    yield case("HardSigmoid", X, 13, alpha=1 / 6)
    yield from (case(op, X, opset) for op, opset in (("HardSwish", 14), ("Mish", 18), ("Gelu", 20), ("Dropout", 13)))
    yield case("Gelu", X, 20, approximate="tanh")
    slopes = (floats(6, 1, 1), floats(1), floats(1, 6, 1, 1), floats(4), floats(5, 4), floats(1, 1, 1))
    yield from (case("PRelu", X, 9, slope) for slope in slopes)
    yield from (case("PRelu", shape, 9, floats(size)) for shape, size in (((3, 6), 6), ((3, 6), 1), ((6,), 6)))
    yield case("Clip", X, 9, min=-0.5, max=0.3)
    yield from (case("Clip", X, 11, *bounds) for bounds in ((np.float32(-0.5),), (None, np.float32(0.1)), (), (np.float32(0.5), np.float32(0.1))))
    others = (np.float32(2), *(np.abs(floats(*shape)) for shape in ((1,), (6, 1, 1), (4,), (3, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1))))
    yield from (case(op, X, 13, other) for op in ("Add", "Sub", "Mul", "Div", "Pow") for other in others)
    yield from (case(op, X, 13, floats(4), np.float32(0.1)) for op in ("Min", "Max", "Sum", "Mean"))
    yield case("Mod", X, 13, np.float32(0.7), fmod=1)


FAMILIES = [convolutions, pools, resizes, rearrangements, products, normalizations, reductions, pointwise]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_operators_equal_onnx_runtime(family: Any) -> None:
    torch.set_num_threads(1)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    count = 0
    for one in family():
        model = one.model()
        x = np.random.default_rng(0).normal(size=one.shape).astype(np.float32)
        wanted = ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
        for mine, theirs in zip(interpret(model, x), wanted, strict=True):
            assert mine.shape == theirs.shape, one
            np.testing.assert_allclose(mine, theirs, atol=1e-5, rtol=1e-5, err_msg=repr(one))
        count += 1
    assert count


def interpret(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    inputs = read_inputs(model, "m", None)
    planned = plan(read_nodes(model, "m"), read_initializers(model, "m"), inputs, [value.name for value in model.graph.output], "m")
    with torch.no_grad():
        return [value.numpy() for value in Interpreter(planned)(torch.from_numpy(x))]


INEXACT = [
    case("AveragePool", (1, 2, 8, 7), 19, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0], ceil_mode=1),
    case("AveragePool", (1, 2, 8, 7), 19, kernel_shape=[2, 2], dilations=[2, 2]),
    case("MaxPool", (1, 2, 8, 7), 11, kernel_shape=[2, 2], outputs=2),
    case("LRN", X, 13, size=4),
    case("LayerNormalization", X, 17, floats(4), axis=2),
    case("Dropout", X, 13, np.float32(0.5), np.array(True)),
    case("Resize", X, 18, None, None, ints(2, 6, 7, 7), antialias=1, mode="linear"),
    case("Resize", X, 13, None, np.array([1, 2, 1, 1], np.float32)),
    case("Resize", X, 13, None, np.array([1, 1, 2, 2], np.float32), mode="cubic", cubic_coeff_a=-0.5),
    case("ReduceL1", X, 18, noop_with_empty_axes=1),
    case("BatchNormalization", X, 7, *[floats(6)] * 4, spatial=0),
    case("Conv", (1, 3, 9, 8), 11, floats(4, 3, 3, 3), kernel_shape=[2, 2]),
    case("CumSum", X, 14, np.int64(1), reverse=1),
]


@pytest.mark.parametrize("one", INEXACT, ids=lambda one: one.op)
def test_what_is_not_read_exactly_is_refused(one: Case) -> None:
    with pytest.raises(InputError, match=rf"^m: node 'it' \({one.op}\): .+"):
        interpret(one.model(), np.zeros(one.shape, np.float32))


def test_arithmetic_on_shapes_stays_on_the_host() -> None:
    """A reshape to (N, C * H // 2, -1), its sizes computed as exporters do, with negative division rounding to zero."""
    node = helper.make_node
    stored = {"two": ints(2), "zero": ints(0), "one": ints(1), "three": ints(3), "axis": ints(0), "minus": ints(-5)}
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "one", "three"], ["middle"]),
        node("ReduceProd", ["middle"], ["product"], axes=[0], keepdims=1),
        node("Div", ["product", "two"], ["half"]),
        node("Div", ["minus", "two"], ["negative"]),
        node("Add", ["negative", "one"], ["rest"]),
        node("Gather", ["shape", "zero"], ["batch"], axis=0),
        node("Concat", ["batch", "half", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert [value.shape for value in interpret(model, floats(*X))] == [(2, 15, 8)]
