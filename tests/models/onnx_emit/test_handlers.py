"""Every ONNX handler against torch: one call is a whole model, run in ONNX Runtime at batch 1 and 3."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import fx, nn

from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.leaves import BatchNorm
from compresskit.models.onnx_emit import UnsupportedError, emit
from compresskit.models.onnx_emit.emitter import HANDLERS
from compresskit.models.onnx_out import export_onnx
from compresskit.models.sessions import run

aten = torch.ops.aten


@dataclass(frozen=True)
class Input:
    """An input of the call, the batch in front."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    positive: bool = False

    def draw(self, batch: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(batch)
        if not self.dtype.is_floating_point:
            return torch.randint(0, 2 if self.dtype == torch.bool else 3, (batch, *self.shape), generator=rng).to(self.dtype)
        drawn = torch.randn((batch, *self.shape), generator=rng, dtype=self.dtype)
        return drawn.abs() + 0.1 if self.positive else drawn


@dataclass(frozen=True)
class Weight:
    """A constant of the call."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def draw(self) -> torch.Tensor:
        rng = torch.Generator().manual_seed(1)
        if self.dtype.is_floating_point:
            return torch.rand(self.shape, generator=rng) + 0.5
        return torch.randint(0, 2, self.shape, generator=rng).to(self.dtype)


class Size:
    """The batch size times a number, as a size node."""

    def __init__(self, times: int = 1) -> None:
        self.times = times


def x(*shape: int, dtype: torch.dtype = torch.float32, positive: bool = False) -> Input:
    return Input(shape, dtype, positive)


class Builder:
    """Writes the fx graph of one call; inputs become placeholders `in.0`, `in.1` ..."""

    def __init__(self) -> None:
        self.graph, self.root = fx.Graph(), nn.Module()
        self.inputs: list[Input] = []
        self.placeholders: list[fx.Node] = []

    def lower(self, value: Any) -> Any:
        if isinstance(value, Input):
            self.inputs.append(value)
            self.placeholders.append(self.graph.placeholder(f"in_{len(self.inputs)}"))
            return self.placeholders[-1]
        if isinstance(value, Weight):
            name = f"weight{len(list(self.root.buffers()))}"
            self.root.register_buffer(name, value.draw())
            return self.graph.get_attr(name)
        if isinstance(value, Size):
            size = self.graph.call_function(aten.sym_size.int, (self.placeholders[0], 0))
            return size if value.times == 1 else self.graph.call_function(operator.mul, (size, value.times))
        return type(value)(self.lower(item) for item in value) if isinstance(value, list | tuple) else value

    def build(self, target: Any, args: tuple[Any, ...], options: dict[str, Any], fixed: int | None) -> ModelGraph:
        lowered, kwargs = self.lower(args), {key: self.lower(value) for key, value in options.items()}
        if isinstance(target, nn.Module):
            self.root.add_module("leaf", target.eval())
            call = self.graph.call_module("leaf", lowered, kwargs)
        else:
            call = self.graph.call_function(target, lowered, kwargs)
        self.graph.output(call)
        result = fx.GraphModule(self.root, self.graph)(*(entry.draw(2) for entry in self.inputs))
        end = next(iter(reversed(self.graph.nodes)))
        count = len(result) if isinstance(result, list | tuple) else 1
        if isinstance(result, list | tuple):
            with self.graph.inserting_before(end):
                end.args = (tuple(self.graph.call_function(operator.getitem, (call, index)) for index in range(count)),)
        inputs = tuple(TensorSpec(f"in.{index}", (fixed, *entry.shape), entry.dtype) for index, entry in enumerate(self.inputs))
        return ModelGraph(fx.GraphModule(self.root, self.graph), inputs, tuple(TensorSpec(f"out.{index}", ()) for index in range(count)))


def check(target: Any, *args: Any, fixed: int | None = None, fold: bool = True, **options: Any) -> onnx.ModelProto:
    builder = Builder()
    graph = builder.build(target, args, options, fixed)
    emit(graph)  # by our handlers, not by the fallback
    proto = export_onnx(graph, fold_batchnorm=fold)
    for batch in (1, 3) if fixed is None else (fixed,):
        tensors = [entry.draw(batch) for entry in builder.inputs]
        with torch.no_grad():
            expected = graph.module(*tensors)
        feeds = {spec.name: tensor.numpy() for spec, tensor in zip(graph.inputs, tensors, strict=True)}
        results = run(proto.SerializeToString(), feeds)
        for reference, result in zip(expected if isinstance(expected, tuple) else (expected,), results, strict=True):
            assert result.dtype == reference.numpy().dtype
            np.testing.assert_allclose(result, reference.numpy(), rtol=2e-5, atol=2e-5)
    return proto


image = x(4, 6, 6)
square = x(3, 5)
INT = torch.int64
conv_args: dict[str, Any] = {"1": (x(4, 9), Weight((6, 4, 3))), "2": (image, Weight((6, 4, 3, 3))), "3": (x(2, 4, 4, 4), Weight((3, 2, 3, 3, 3)))}
UNARY = ["abs", "alias", "ceil", "celu", "clone", "contiguous", "cos", "detach", "elu", "erf", "exp", "floor", "gelu", "hardsigmoid"]
UNARY += ["hardswish", "hardtanh", "leaky_relu", "mish", "neg", "relu", "relu6", "round", "selu", "sigmoid", "sign", "silu", "sin"]
UNARY += ["softplus", "square", "tan", "tanh"]
POSITIVE = ["sqrt", "rsqrt", "log", "reciprocal"]
COMPARED = (("Tensor", x(3, dtype=INT)), ("Scalar", 1), ("Scalar", 0.5))
LINEAR = (("linear1d", 1), ("bilinear2d", 2), ("trilinear3d", 3))
CASES: list[tuple[Any, ...]] = [
    *((f"aten.{name}.default", square) for name in UNARY),
    *((f"aten.{name}.default", x(3, positive=True)) for name in POSITIVE),
    ("aten.gelu.default", square, {"approximate": "tanh"}),
    ("aten.softplus.default", square, 2.0),
    ("aten.softplus.default", x(3), 1.0, 20.0),
    ("aten.sqrt.default", x(3, dtype=INT)),
    ("aten.detach_.default", x(3)),
    ("aten.lift_fresh_copy.default", x(3)),
    ("aten.dropout.default", x(3), 0.5, False),
    ("aten.feature_dropout.default", image, 0.5, False),
    ("aten.alpha_dropout.default", x(3), 0.5, False),
    ("aten.logical_not.default", x(3, dtype=torch.bool)),
    *((f"aten.{name}.default", x(3, dtype=torch.bool), x(3, dtype=torch.bool)) for name in ("logical_and", "logical_or")),
    *((f"aten.{name}.Tensor", x(3, dtype=torch.bool), x(3, dtype=torch.bool)) for name in ("bitwise_and", "bitwise_or")),
    *((f"aten.{name}.Tensor", x(2, 3), x(1, 3)) for name in ("add", "sub", "mul", "div", "rsub")),
    *((f"aten.{name}.Scalar", x(2, 3), 2) for name in ("add", "sub", "mul", "div", "rsub")),
    *((f"aten.{name}.Tensor", x(3, dtype=INT), x(3)) for name in ("add", "mul", "eq", "lt")),
    *((f"aten.{name}.{kind}", x(3, dtype=INT), other) for name in ("eq", "ne", "lt", "le", "gt", "ge") for kind, other in COMPARED),
    ("aten.add.Tensor", x(3), x(3), {"alpha": 2}),
    ("aten.rsub.Scalar", x(3), 1.5, 3),
    ("aten.div.Tensor", x(3, dtype=INT), 2),
    ("aten.maximum.default", x(3), x(3)),
    ("aten.minimum.default", x(3), Weight((3,))),
    ("aten.pow.Tensor_Scalar", x(3), 2),
    ("aten.pow.Tensor_Tensor", x(3, positive=True), x(3)),
    ("aten.pow.Scalar", 2.0, x(3)),
    ("aten.div.Tensor_mode", x(3), 0.5, {"rounding_mode": "floor"}),
    ("aten.div.Tensor_mode", x(3), 0.5, {"rounding_mode": "trunc"}),
    ("aten.div.Scalar_mode", x(3), 0.5, {"rounding_mode": None}),
    ("aten.glu.default", x(4, 3), 1),
    ("aten.prelu.default", image, Weight((4,))),
    ("aten.clamp.default", x(3), -0.5, 0.5),
    ("aten.clip.default", x(3), None, 0.5),
    ("aten.clamp_min.default", x(3), 0.1),
    ("aten.clamp_max.default", x(3), 0.1),
    ("aten.where.self", x(3, dtype=torch.bool), x(3), Weight((3,))),
    ("aten.where.ScalarOther", x(3, dtype=torch.bool), x(3), 0.0),
    ("aten.where.ScalarSelf", x(3, dtype=torch.bool), 1.0, x(3)),
    ("aten.where.Scalar", x(3, dtype=torch.bool), 1.0, 2.0),
    ("aten.masked_fill.Scalar", x(3), x(3, dtype=torch.bool), 7.0),
    ("aten.masked_fill.Tensor", x(3), x(3, dtype=torch.bool), Weight(())),
    ("aten.to.dtype", x(3), torch.float64),
    ("aten.to.dtype_layout", x(3), {"dtype": INT}),
    ("aten.to.device", x(3), torch.device("cpu"), torch.float16),
    ("aten.to.other", x(3), x(3, dtype=INT)),
    ("aten._to_copy.default", x(3, dtype=INT), {"dtype": torch.float32}),
    ("aten.type_as.default", x(3, dtype=INT), x(3)),
    # products
    ("aten.matmul.default", x(3, 5), x(5, 2)),
    ("aten.matmul.default", x(3, 5), Weight((5, 2))),
    ("aten.mm.default", x(5), Weight((5, 2))),
    ("aten.bmm.default", x(3, 5), x(5, 2)),
    ("aten.dot.default", x(), x()),
    ("aten.mv.default", x(3), Weight((3,))),
    ("aten.addmm.default", Weight((2,)), x(5), Weight((5, 2)), {"beta": 2, "alpha": 0.5}),
    ("aten.baddbmm.default", Weight((1, 2)), x(3, 5), x(5, 2), {"beta": 2, "alpha": 0.5}),
    ("aten.einsum.default", "bij,jk->bik", [x(3, 5), Weight((5, 2))]),
    ("aten.linear.default", x(3, 5), Weight((2, 5)), Weight((2,))),
    ("aten.linear.default", x(5), Weight((2, 5))),
    ("aten.scaled_dot_product_attention.default", x(2, 5, 4), x(2, 7, 4), x(2, 7, 3)),
    ("aten.scaled_dot_product_attention.default", x(2, 5, 4), x(2, 5, 4), x(2, 5, 4), None, 0.0, True),
    ("aten.scaled_dot_product_attention.default", x(2, 5, 4), x(2, 7, 4), x(2, 7, 3), Weight((5, 7)), {"scale": 0.3}),
    ("aten.scaled_dot_product_attention.default", x(2, 5, 4), x(2, 2, 4), x(2, 2, 3), Weight((1, 2), torch.bool)),
    ("aten.rms_norm.default", x(3, 5), [5], Weight((5,)), 1e-6),
    ("aten.rms_norm.default", x(3, 5), [5]),
    # layers with weights that are not leaves
    *((f"aten.conv{rank}d.default", *args, Weight((args[1].shape[0],)), [2], [1]) for rank, args in conv_args.items()),
    *((f"aten.conv{rank}d.padding", *args, None, [1], "same", [2]) for rank, args in conv_args.items()),
    ("aten.conv2d.padding", image, Weight((6, 2, 3, 3)), None, [1], "valid", [1], 2),
    ("aten.conv_transpose1d.default", x(4, 5), Weight((4, 3, 3)), None, [2]),
    ("aten.conv_transpose2d.input", image, Weight((4, 3, 3, 3)), Weight((6,)), [2, 1], [1, 1], [1, 0], 2, [1, 2]),
    ("aten.conv_transpose3d.input", x(2, 3, 3, 3), Weight((2, 3, 2, 2, 2)), None, [2]),
    ("aten.batch_norm.default", image, Weight((4,)), None, Weight((4,)), Weight((4,)), False, 0.1, 1e-3, False),
    ("aten.layer_norm.default", x(3, 5), [3, 5], Weight((3, 5)), None),
    ("aten.layer_norm.default", x(3, 5), [5]),
    ("aten.group_norm.default", image, 2, Weight((4,)), Weight((4,)), 1e-3),
    ("aten.instance_norm.default", image, Weight((4,)), None, None, None, True, 0.1, 1e-3, False),
    ("aten.instance_norm.default", image, None, None, Weight((4,)), Weight((4,)), False, 0.1, 1e-3, False),
    ("aten.embedding.default", Weight((3, 5)), x(4, dtype=INT), -1),
    # views
    ("aten.view.default", image, [-1, 24, 6]),
    ("aten.reshape.default", image, [Size(4), 36]),
    ("aten._unsafe_view.default", image, [Size(), 144]),
    ("aten.view_as.default", x(6), x(3, 2)),
    ("aten.reshape_as.default", x(6), x(3, 2)),
    ("aten.unflatten.int", x(6), 1, [2, 3]),
    ("aten.flatten.using_ints", image, 1),
    ("aten.flatten.using_ints", image, 2),
    ("aten.flatten.using_ints", image, 0, 1),
    ("aten.squeeze.dim", x(1, 3), 1),
    ("aten.squeeze.dims", x(1, 3, 1), [1, -1]),
    ("aten.unsqueeze.default", x(3), -1),
    ("aten.permute.default", image, [0, 2, 3, -3]),
    ("aten.transpose.int", image, 1, -1),
    ("aten.swapaxes.default", image, 0, 1),
    ("aten.swapdims.default", image, 0, 1),
    ("aten.movedim.int", image, 1, -1),
    ("aten.t.default", x(3)),
    ("aten.numpy_T.default", x(3)),
    ("aten.mT.default", x(3, 4)),
    ("aten.chunk.default", x(5, 3), 2, 1),
    ("aten.split.Tensor", x(5, 3), 2, 1),
    ("aten.split.sizes", x(5), [2, 3], -1),
    ("aten.split_with_sizes.default", x(5), [1, 4], 1),
    ("aten.tensor_split.sections", x(5), 2, 1),
    ("aten.unbind.int", x(3, 2), 1),
    ("aten.select.int", x(3, 2), 1, -1),
    ("aten.slice.Tensor", x(6), 1, 1, -1, 2),
    ("aten.slice.Tensor", x(6), 0, 0, 9223372036854775807),
    ("aten.narrow.default", x(6), 1, 2, 3),
    ("aten.cat.default", [x(2, 3), x(4, 3), Weight((0,))], 1),
    ("aten.concat.default", [x(2, dtype=INT), x(4)], -1),
    ("aten.stack.default", [x(2), x(2)], -1),
    ("aten.expand.default", x(1, 3), [-1, 4, 3]),
    ("aten.expand.default", x(1, 3), [Size(), 4, 3]),
    ("aten.expand.default", x(2, 3), [Size(), -1, -1]),
    ("aten.expand_as.default", x(1, 3), x(4, 3)),
    ("aten.repeat.default", x(3), [2, 1, 2]),
    ("aten.index_select.default", x(4, 3), 1, Weight((5,), INT)),
    ("aten.index.Tensor", x(4, 3), [None, Weight((5,), INT)]),
    ("aten.gather.default", x(3), 1, x(3, dtype=INT)),
    ("aten.flip.default", x(3, 4), [1, -1]),
    ("aten.roll.default", x(5, 4), [2, -1], [1, 2]),
    ("aten.pixel_shuffle.default", x(8, 3, 3), 2),
    ("aten.channel_shuffle.default", image, 2),
    ("aten.full_like.default", x(3), 2.5),
    ("aten.zeros_like.default", x(3, dtype=INT)),
    ("aten.ones_like.default", x(3)),
    # spatial
    ("aten.max_pool1d.default", x(4, 9), [3], [2]),
    ("aten.max_pool2d.default", image, [3, 2], [2, 1], [1, 1], [1, 2]),
    ("aten.max_pool2d.default", x(4, 7, 8), [3], [2], [0], [1], True),
    ("aten.max_pool3d.default", x(2, 4, 4, 4), [2]),
    ("aten.avg_pool1d.default", x(4, 9), [3], [2], [1]),
    ("aten.avg_pool2d.default", image, [3, 3], [2, 2], [1, 1], False, False),
    ("aten.avg_pool2d.default", x(4, 7, 8), [2, 2], [2, 2], [0, 0], True),
    ("aten.avg_pool3d.default", x(2, 4, 4, 4), [2]),
    ("aten.adaptive_avg_pool1d.default", x(4, 9), [3]),
    ("aten.adaptive_avg_pool2d.default", image, [1, 1]),
    ("aten.adaptive_avg_pool2d.default", image, [6, 6]),
    ("aten.adaptive_avg_pool3d.default", x(2, 4, 4, 4), [1, 2, 4]),
    ("aten.pad.default", image, [1, 2, 0, 1]),
    ("aten.pad.default", image, [1, 1, 2, 0], "circular"),
    ("aten.pad.default", image, [-1, 2], "constant", 3.0),
    ("aten.constant_pad_nd.default", image, [1, 0], 0.5),
    ("aten.reflection_pad1d.default", x(2, 5), [1, 2]),
    ("aten.reflection_pad2d.default", image, [1, 2, 0, 1]),
    ("aten.reflection_pad3d.default", x(2, 4, 4, 4), [1, 1, 1, 1, 1, 1]),
    ("aten.replication_pad1d.default", x(2, 5), [1, 2]),
    ("aten.replication_pad2d.default", image, [1, 2, 0, 1]),
    ("aten.replication_pad3d.default", x(2, 4, 4, 4), [1, 1, 1, 1, 1, 1]),
    *((f"aten.upsample_nearest{rank}d.vec", x(2, *[4] * rank), None, [1.5] * rank) for rank in (1, 2, 3)),
    *((f"aten.upsample_nearest{rank}d.default", x(2, *[4] * rank), [7] * rank) for rank in (1, 2, 3)),
    *((f"aten.upsample_{kind}.vec", x(2, *[4] * rank), None, False, [2.5] * rank) for kind, rank in LINEAR),
    *((f"aten.upsample_{kind}.default", x(2, *[4] * rank), [7] * rank, True) for kind, rank in LINEAR),
    ("aten.upsample_bilinear2d.vec", image, [9, 5], False, None),
    ("aten.upsample_bicubic2d.vec", image, None, False, [2.0, 2.0]),
    # reductions
    ("aten.mean.dim", image, [2, 3]),
    ("aten.mean.dim", image, [-1, -2], True),
    ("aten.mean.dim", x(3, 5), [1]),
    ("aten.mean.default", x(3)),
    ("aten.sum.dim_IntList", x(3, 5), [1, 2]),
    ("aten.sum.default", x(3, dtype=INT)),
    ("aten.amax.default", x(3, 5), [1]),
    ("aten.amin.default", x(3, 5), [-1], True),
    ("aten.logsumexp.default", x(3, 5), [1]),
    ("aten.max.dim", x(3, 5), 1, True),
    ("aten.argmax.default", x(3, 5), 2),
    ("aten.linalg_vector_norm.default", x(3, 5), 2, [1]),
    ("aten.linalg_vector_norm.default", x(3, 5), 1, [1], True),
    ("aten.var.correction", x(3, 5), [1], {"correction": 0}),
    ("aten.var.correction", x(3, 5), [1, 2], {"keepdim": True}),
    ("aten.cumsum.default", x(3, 5), 1),
    ("aten.topk.default", x(9), 3),
    ("aten.softmax.int", x(3, 5), 1),
    ("aten.log_softmax.int", x(3, 5), -1),
    ("aten._softmax.default", x(3, 5), 1, False),
    ("aten._log_softmax.default", x(3, 5), 1, False),
]
LEAVES: list[tuple[nn.Module, Input]] = [
    (nn.Conv1d(4, 6, 3, padding=1), x(4, 9)),
    (nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2), groups=2, bias=False), image),
    (nn.Conv2d(4, 6, (4, 3), padding="same", dilation=(2, 1)), image),
    (nn.Conv3d(2, 3, 3), x(2, 4, 4, 4)),
    (nn.ConvTranspose1d(4, 3, 3, 2), x(4, 5)),
    (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), image),
    (nn.ConvTranspose3d(2, 3, 2), x(2, 3, 3, 3)),
    (nn.Linear(5, 3), x(5)),
    (nn.Linear(5, 3, bias=False), x(2, 4, 5)),
    (nn.BatchNorm2d(4), image),
    (BatchNorm(4, affine=False), x(4)),
    (nn.LayerNorm(5), x(3, 5)),
    (nn.LayerNorm([3, 5], bias=False), x(3, 5)),
    (nn.GroupNorm(2, 4), image),
    (nn.InstanceNorm2d(4, affine=True), image),
    (nn.InstanceNorm1d(4, track_running_stats=True), x(4, 5)),
    (nn.RMSNorm(5), x(3, 5)),
    (nn.Embedding(3, 5), x(4, dtype=INT)),
    (nn.PReLU(4), image),
    (nn.PReLU(), x(4)),
    (nn.Dropout(0.5), x(4)),
    (nn.Identity(), x(4)),
]
APART = {"adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "sym_size", "full", "zeros", "ones", "arange", "operator", "squeeze"}
"""Handlers that the tests of whole models cover: they take no tensor, or an output of theirs has no ONNX form."""


def overload(name: str) -> Any:
    _, packet, kind = name.split(".")
    return getattr(getattr(aten, packet), kind)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_call(case: tuple[Any, ...]) -> None:
    name, *args = case
    options = args.pop() if isinstance(args[-1], dict) else {}
    check(overload(name), *args, **options)


@pytest.mark.parametrize(("module", "inputs"), LEAVES, ids=lambda value: type(value).__name__)
def test_leaf(module: nn.Module, inputs: Input) -> None:
    check(randomized(module), inputs)


@pytest.mark.parametrize(("module", "inputs"), LEAVES, ids=lambda value: type(value).__name__)
def test_fixed_batch(module: nn.Module, inputs: Input) -> None:
    proto = check(randomized(module), inputs, fixed=2)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    assert proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_squeeze_of_everything() -> None:
    """At a batch of 1 torch would squeeze that as well, so only a fixed batch has one meaning."""
    check(aten.squeeze.default, x(1, 3, 1), fixed=2)


def test_every_handler_is_tested() -> None:
    called = {name for name, *_ in CASES} | {base.__name__ for module, _ in LEAVES for base in type(module).__mro__}
    assert {name for name in HANDLERS if name not in called and not APART & set(name.split("."))} == set()


def randomized(module: nn.Module) -> nn.Module:
    """`module` with parameters and statistics unlike those that it starts with."""
    rng = torch.Generator().manual_seed(3)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=rng) + 0.5
    return module


@pytest.mark.parametrize(
    "case",
    [
        ("aten.avg_pool2d.default", image, [3, 3], [2, 2], [1, 1], True),
        ("aten.avg_pool2d.default", image, [2, 2], [2, 2], [0, 0], False, True, 3),
        ("aten.adaptive_avg_pool2d.default", image, [4, 4]),
        ("aten.adaptive_max_pool2d.default", image, [1, 1]),
        ("aten.rand_like.default", image),
        ("aten.elu.default", image, 1.0, 2.0),
        ("aten.chunk.default", x(3), 2, 0),
        ("aten.index.Tensor", x(3, 4), [None, Weight((2,), INT), Weight((2,), INT)]),
        ("aten.linalg_vector_norm.default", x(3, 5), 3, [1]),
        ("aten.bitwise_and.Tensor", x(3, dtype=INT), x(3, dtype=INT)),
        ("aten.roll.default", x(3), [1], []),
        ("aten.argmax.default", x(3)),
    ],
    ids=lambda case: case[0],
)
def test_what_a_handler_does_not_cover_it_refuses(case: tuple[Any, ...]) -> None:
    name, *args = case
    with pytest.raises(UnsupportedError):
        emit(Builder().build(overload(name), tuple(args), {}, None))
