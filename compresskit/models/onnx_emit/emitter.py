"""The emitter: what a handler sees and calls, and the walk that turns each fx node into ONNX nodes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import onnx
import torch
from onnx import helper
from torch import fx, nn

from compresskit.models.graph import ModelGraph
from compresskit.models.onnx_emit.trace import Dim, Traced, trace
from compresskit.models.onnx_emit.values import Size, Value, data_of, is_known, known, onnx_dtype, tensor_proto
from compresskit.registry import Registry

OPSET = 20  # the lowest that has Gelu

Handler = Callable[..., "str | Sequence[str | None]"]
H = TypeVar("H", bound=Handler)
HANDLERS: Registry[Handler] = Registry("ONNX handler")
"""By ATen overload (`aten.relu.default`) or by the class of a module leaf (`Conv2d`, or a base of it)."""


class UnsupportedError(Exception):
    """The emitter has no words for a node; torch's own exporter may."""


def handles(*names: str) -> Callable[[H], H]:
    """Register a handler. It is called as `handler(emitter, *args, **kwargs)` with the arguments of the ATen call (or, for a module leaf,
    the module and its inputs), nodes replaced by their values, and returns the name of its ONNX result (or a sequence of them)."""

    def register(handler: H) -> H:
        for name in names:
            HANDLERS.register(name)(handler)
        return handler

    return register


@dataclass(frozen=True)
class Emitted:
    """The body of an ONNX graph."""

    nodes: list[onnx.NodeProto]
    initializers: list[onnx.TensorProto]
    output_shapes: tuple[tuple[Dim, ...], ...]
    output_dtypes: tuple[torch.dtype, ...]


class Emitter:
    """Collects nodes and initializers while the walk goes through the fx graph; `node` is where it is."""

    def __init__(self, graph: ModelGraph, *, fold_batchnorm: bool) -> None:
        self.graph = graph
        self.fold_batchnorm = fold_batchnorm
        self.traced = trace(graph)
        self.values: dict[fx.Node, Any] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.folded: set[fx.Node] = set()
        self.node: fx.Node = next(iter(graph.module.graph.nodes))
        self._taken = {spec.name for spec in (*graph.inputs, *graph.outputs)}
        self._constants: dict[tuple[Any, ...], str] = {}
        self._stored: dict[tuple[Any, ...], tuple[str, torch.Tensor]] = {}  # holds the tensors, so that an address stays the address of one

    # -- what handlers use ---------------------------------------------------------------------------------------------

    def op(self, kind: str, *inputs: Value | str | None, **attributes: Any) -> str:
        """Append a node with one output and return that output's name."""
        return self.op_many(kind, 1, *inputs, **attributes)[0]

    def op_many(self, kind: str, outputs: int, *inputs: Value | str | None, **attributes: Any) -> list[str]:
        """Append a node with several outputs and return their names. None stands for an input left out."""
        names = [self._name_of(value) for value in inputs]
        while names and not names[-1]:
            names.pop()
        results = [self.unique(self.node.name) for _ in range(outputs)]
        kept = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, names, results, name=results[0], **kept))
        return results

    def initializer(self, tensor: torch.Tensor, name: str) -> str:
        """Store `tensor` under `name` (or `name_1` ... where that is taken) and return the name."""
        name = self.unique(name)
        self.initializers[name] = tensor_proto(tensor, name)
        return name

    def constant(self, values: int | float | bool | Sequence[int] | Sequence[float], dtype: torch.dtype = torch.int64) -> str:
        """A small constant, stored once: a number gives a scalar, a sequence a vector."""
        key = (tuple(values) if isinstance(values, Sequence) else values, str(dtype), isinstance(values, Sequence))
        if key not in self._constants:
            self._constants[key] = self.initializer(torch.tensor(values, dtype=dtype), f"constant_{len(self._constants)}")
        return self._constants[key]

    def shape(self, sizes: Sequence[int | Size]) -> str:
        """Sizes as a shape tensor."""
        if all(isinstance(size, int) for size in sizes):
            return self.constant(list(sizes))  # type: ignore[arg-type]
        parts = [size.name if isinstance(size, Size) else self.constant([size]) for size in sizes]
        return self.op("Concat", *parts, axis=0)

    def reshape(self, x: Value | str, shape: Sequence[Dim]) -> str:
        """`x` in another shape; at most one size may follow the batch."""
        sizes = [size if isinstance(size, int) else -1 for size in shape]
        if sizes.count(-1) > 1 or 0 in sizes:
            raise UnsupportedError(f"a reshape to {tuple(shape)}")
        return self.op("Reshape", x, self.constant(sizes))

    def cast(self, x: Value | str, dtype: torch.dtype) -> str:
        """`x` (a Value is left alone where it has the type already) as `dtype`."""
        if isinstance(x, Value) and x.dtype == dtype:
            return self._name_of(x)
        return self.op("Cast", x, to=onnx_dtype(dtype))

    def operand(self, x: Value | float, dtype: torch.dtype) -> str:
        """A tensor or a Python number as a tensor of `dtype`."""
        if isinstance(x, Value):
            return self.cast(x, dtype)
        if isinstance(x, Size):
            raise UnsupportedError("arithmetic on tensors with the batch size")
        return self.constant(x, dtype)

    @property
    def result(self) -> Traced:
        """Shape and type of the current node's (single) result."""
        return self.traced[self.node]

    def parameter(self, module: nn.Module, name: str) -> Value | None:
        """A parameter or buffer of the leaf at the current node, under its state_dict key; None where it has none."""
        tensor = getattr(module, name)
        return None if tensor is None else known(f"{self.node.target}.{name}", tensor)

    def unique(self, name: str) -> str:
        candidate, count = name, 0
        while candidate in self._taken:
            count += 1
            candidate = f"{name}_{count}"
        self._taken.add(candidate)
        return candidate

    # -- the walk --------------------------------------------------------------------------------------------------------

    def walk(self) -> Emitted:
        """Emit every node that the outputs need."""
        nodes = self.graph.module.graph.nodes
        live = _live(nodes)
        placeholders = iter(self.graph.inputs)
        for self.node in nodes:
            if self.node.op == "placeholder":
                traced = self.traced[self.node]
                self.values[self.node] = Value(next(placeholders).name, traced.shape, traced.dtype)
            elif self.node.op == "output":
                return self._finish()
            elif self.node in live:
                self.values[self.node] = self._value()
        raise AssertionError("an fx graph ends with its output node")

    def _value(self) -> Any:
        node, traced = self.node, self.traced[self.node]
        if node.op == "get_attr":
            return known(str(node.target), operator.attrgetter(str(node.target))(self.graph.module))
        if isinstance(traced, int):
            return traced
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]  # type: ignore[index]
        inputs = [self.values[source] for source in node.all_input_nodes]
        if all(is_known(value) for value in inputs):
            return self._evaluate()
        return self._wrap(self._handle(), traced)

    def _evaluate(self) -> Any:
        """The value of a node that depends on no input: computed now, stored as an initializer if anyone asks for it."""
        node = self.node
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise UnsupportedError(f"the random operator {_key(node.target)}")
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: data_of(self.values[source]))
        call = self.graph.module.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        with torch.no_grad():
            result = call(*args, **kwargs)  # type: ignore[operator]
        if isinstance(result, list | tuple):
            return tuple(known(f"{node.name}_{index}", item) for index, item in enumerate(result))
        return known(node.name, result)

    def _handle(self) -> Any:
        inputs: tuple[Any, Any] = fx.map_arg((self.node.args, self.node.kwargs), lambda source: self.values[source])
        args, kwargs = inputs
        names = [_key(self.node.target)]
        if self.node.op == "call_module":
            module = self.graph.module.get_submodule(str(self.node.target))
            names = [base.__name__ for base in type(module).__mro__]
            args = (module, *args)
        handler = next((HANDLERS[name] for name in names if name in HANDLERS), None)
        if handler is None:
            raise UnsupportedError(names[0])
        return handler(self, *args, **kwargs)

    def _wrap(self, result: Any, traced: Any) -> Any:
        if isinstance(traced, Traced):
            return Value(result, traced.shape, traced.dtype)
        if isinstance(traced, tuple):
            return tuple(self._wrap(item, part) for item, part in zip(result, traced, strict=True))
        return Size(result)

    def _name_of(self, value: Value | str | None) -> str:
        if not isinstance(value, Value):
            return value or ""
        if value.data is None:
            return value.name
        key = (value.name, value.data.data_ptr(), value.shape, value.data.stride())
        if key not in self._stored:
            self._stored[key] = (self.initializer(value.data, value.name), value.data)
        return self._stored[key][0]

    def _finish(self) -> Emitted:
        """Give the results their names in the file, and drop what nobody reads."""
        results = self.node.args[0]
        values = [self.values[result] for result in (results if isinstance(results, list | tuple) else [results])]  # type: ignore[index]
        made = {name for node in self.nodes for name in node.output}
        renamed: dict[str, str] = {}
        for value, spec in zip(values, self.graph.outputs, strict=True):
            name = self._name_of(value)
            if name in made and name not in renamed:
                renamed[name] = spec.name
            else:  # an input, a constant, or a result given twice
                self.nodes.append(helper.make_node("Identity", [renamed.get(name, name)], [spec.name], name=spec.name))
        for node in self.nodes:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
        nodes = _needed(self.nodes, {spec.name for spec in self.graph.outputs})
        read = {name for node in nodes for name in node.input}
        initializers = [tensor for name, tensor in self.initializers.items() if name in read]
        return Emitted(nodes, initializers, tuple(value.shape for value in values), tuple(value.dtype for value in values))


def emit(graph: ModelGraph, *, fold_batchnorm: bool = True) -> Emitted:
    """The graph's nodes and initializers as ONNX.

    Raises:
        UnsupportedError: a node has no handler, or its handler does not cover this use.
    """
    return Emitter(graph, fold_batchnorm=fold_batchnorm).walk()


def _key(target: Any) -> str:
    """The name that a call's handler is registered under: `aten.add.Tensor`, `operator.mul`."""
    return str(target) if isinstance(target, torch._ops.OpOverload) else f"operator.{getattr(target, '__name__', target)}"


def _live(nodes: Any) -> set[fx.Node]:
    live: set[fx.Node] = set()
    for node in reversed(nodes):
        if node.op == "output" or node in live:
            live.update((node, *node.all_input_nodes))
    return live


def _needed(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
