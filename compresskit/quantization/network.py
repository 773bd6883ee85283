"""An ONNX graph as this package edits it: nodes, constants, and who makes and reads which tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

PLAIN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Network:
    """The main graph of a model. Edits make new ones; nodes are never changed in place.

    Attributes:
        model: where everything else comes from: declarations, functions, metadata.
        nodes: in an order in which they can run.
        constants: stored tensors by name.
    """

    model: onnx.ModelProto
    nodes: tuple[NodeProto, ...]
    constants: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Network:
        """The main graph of `model`, `Constant` nodes as constants."""
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        nodes = []
        for node in model.graph.node:
            value = _constant(node)
            if value is None:
                nodes.append(node)
            else:
                constants[node.output[0]] = value
        return cls(model, tuple(nodes), constants)

    @property
    def opset(self) -> int:
        return opset_of(self.model)

    @property
    def inputs(self) -> list[str]:
        """Names of what the graph takes."""
        return [value.name for value in self.model.graph.input if value.name not in self.constants]

    @property
    def fixed_batch(self) -> int | None:
        """The batch that the first input fixes; None: any."""
        dims = next(value for value in self.model.graph.input if value.name not in self.constants).type.tensor_type.shape.dim
        return dims[0].dim_value or None if dims else None

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self.model.graph.output]

    @cached_property
    def makers(self) -> dict[str, NodeProto]:
        """The node that makes a tensor, by the tensor's name."""
        return {name: node for node in self.nodes for name in node.output if name}

    @cached_property
    def readers(self) -> dict[str, list[NodeProto]]:
        """The nodes that take a tensor, once for each time; those whose subgraphs reach out for it included."""
        found: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in (*filter(None, node.input), *captured(node)):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def uses(self) -> Counter[str]:
        """How often each tensor is read, as an output of the graph included."""
        return Counter({name: len(nodes) for name, nodes in self.readers.items()}) + Counter(self.outputs)

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Dimensions of the tensors for which ONNX's shape inference finds them."""
        inferred = onnx.shape_inference.infer_shapes(self.to_model()).graph
        values = [*inferred.value_info, *inferred.input, *inferred.output]
        known = {value.name: len(value.type.tensor_type.shape.dim) for value in values if value.type.tensor_type.HasField("shape")}
        return known | {name: value.ndim for name, value in self.constants.items()}

    def edited(self, nodes: Sequence[NodeProto], constants: Mapping[str, np.ndarray] | None = None) -> Network:
        """The same graph with other nodes, and with further or changed constants."""
        return Network(self.model, tuple(nodes), {**self.constants, **(constants or {})})

    def to_model(self, extra: Sequence[TensorProto] = (), *, opset: int | None = None) -> onnx.ModelProto:
        """The graph as a model; constants that nobody reads are left out.

        Args:
            extra: stored tensors that no array holds (packed 4-bit integers).
            opset: the version of ONNX's operators, if it changes.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        for field in ("node", "initializer", "input", "value_info", "quantization_annotation"):
            graph.ClearField(field)
        graph.node.extend(self.nodes)
        graph.input.extend(value for value in self.model.graph.input if value.name not in self.constants)
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self.constants.items() if self.uses[name])
        graph.initializer.extend(extra)
        for entry in model.opset_import:
            if entry.domain in PLAIN_DOMAINS and opset is not None:
                entry.version = opset
        model.ir_version = max(model.ir_version, helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True))
        return model


def part_up_to(model: onnx.ModelProto, name: str, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """The part of a model that makes one tensor of elements `kind`, its only output."""
    needed, nodes = {name}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input, captured(node))
    part = onnx.ModelProto()
    part.CopyFrom(model)
    for field in ("node", "output"):
        part.graph.ClearField(field)
    part.graph.node.extend(reversed(nodes))
    part.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return part


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a model uses; 0 for none."""
    return next((entry.version for entry in model.opset_import if entry.domain in PLAIN_DOMAINS), 0)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of one of a node's attributes."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def is_plain(node: NodeProto) -> bool:
    """Whether an operator is one of ONNX's own."""
    return node.domain in PLAIN_DOMAINS


def title(node: NodeProto) -> str:
    """What to call a node: its name, or where it has none what it makes."""
    return node.name or node.output[0]


def captured(node: NodeProto) -> Iterator[str]:
    """Every name that the subgraphs of a node read (names of their own included: one reader too many does no harm)."""
    graphs = [graph for entry in node.attribute for graph in (*entry.graphs, *([entry.g] if entry.HasField("g") else ()))]
    for graph in graphs:
        for inner in graph.node:
            yield from filter(None, inner.input)
            yield from captured(inner)
        yield from (value.name for value in graph.output)


def _constant(node: NodeProto) -> np.ndarray | None:
    """The value of a `Constant` node that stores numbers."""
    if node.op_type != "Constant" or not is_plain(node) or len(node.attribute) != 1:
        return None
    name, value = node.attribute[0].name, helper.get_attribute_value(node.attribute[0])
    if name == "value":
        return numpy_helper.to_array(value)
    if name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    return np.array(value, np.int64) if name in ("value_int", "value_ints") else None
