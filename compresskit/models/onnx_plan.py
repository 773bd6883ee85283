"""How an ONNX graph will be run: constants folded, weights owned and named, every node's arguments known.

    nodes, constants ──plan──► steps: (node, arguments)     an argument is a value made earlier (Ref), a tensor of the module
                               weights: path -> tensor      (Weight), a host array, or None

The graph is run once on fake tensors, which have shapes and no memory: so every size is known before anything is allocated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from compresskit.errors import InputError
from compresskit.models.graph import ELEMENTS, TensorSpec
from compresskit.models.onnx_names import Names
from compresskit.models.onnx_ops import OPS, Node, Value
from compresskit.models.onnx_ops.indexing import run_of
from compresskit.models.onnx_ops.linear import LINEAR
from compresskit.models.onnx_ops.values import tensor
from compresskit.wording import first_line

FOLDED = 1 << 26
"""Most entries that a constant may have which is computed, and not stored, by the file."""


@dataclass(frozen=True)
class Ref:
    """The value of this name, made by an earlier step or given as an input."""

    name: str


@dataclass(frozen=True)
class Weight:
    """The module's parameter or buffer of this path."""

    path: str


Argument = Ref | Weight | np.ndarray | None


@dataclass(frozen=True)
class Step:
    """One node to run. `dead`: values that nothing needs afterwards. `shape`: of its first argument, at the file's batch."""

    node: Node
    arguments: tuple[Argument, ...]
    dead: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A graph ready to run. Parameters among the weights are `nn.Parameter`; the outputs' specs hold at the file's batch (1 where open)."""

    source: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    results: tuple[Argument, ...]
    steps: tuple[Step, ...]
    weights: Mapping[str, Tensor]


# Inputs that say how, not what: kept on the host.
_HOST_SLOTS: Mapping[str, frozenset[int]] = {
    **{name: frozenset({1}) for name in ("Reshape", "Expand", "Unsqueeze", "Squeeze", "Upsample", "Tile", "Split", "TopK", "CumSum", "Trilu")},
    **{name: frozenset({1}) for name in OPS if name.startswith("Reduce")},
    **{name: frozenset({1, 2, 3}) for name in ("Pad", "Resize")},
    "Slice": frozenset({1, 2, 3, 4}),
    "Range": frozenset({0, 1, 2}),
    "Clip": frozenset({1, 2}),
    "Dropout": frozenset({1, 2}),
    "ConstantOfShape": frozenset({0}),
}
# Operators with weights: what each input behind the first is called.
_LEAVES: Mapping[str, tuple[str, ...]] = {
    "Conv": ("weight", "bias"),
    "ConvTranspose": ("weight", "bias"),
    "BatchNormalization": ("weight", "bias", "running_mean", "running_var"),
    "InstanceNormalization": ("weight", "bias"),
    "LayerNormalization": ("weight", "bias"),
    "GroupNormalization": ("weight", "bias"),
}
# Operators that change how a tensor lies, not what it is: their result keeps its name.
_RENAMING = frozenset({"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Flatten", "Expand"})


def call(node: Node, values: Sequence[Value | None], source: str) -> tuple[Value, ...]:
    """The outputs of one node.

    Raises:
        InputError: the handler cannot read the node, or PyTorch cannot run it; names the node.
    """
    with naming(node, source):
        result = OPS[node.op](node, *values)
    return tuple(result) if isinstance(result, tuple | list) else (result,)


@contextmanager
def naming(node: Node, source: str) -> Iterator[None]:
    """Turn whatever is raised inside into an InputError that names `node`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # torch and numpy raise whatever they like on nonsense
        line = first_line(error)
        raise InputError(f"{source}: node {node.name!r} ({node.op}): {line}") from error


def plan(nodes: Sequence[Node], constants: Mapping[str, np.ndarray], inputs: tuple[TensorSpec, ...], outputs: Sequence[str], source: str) -> Plan:
    """Plan the run of `nodes`.

    Raises:
        InputError: a node does not fit its inputs, uses a value that nothing made, or makes one of an absurd size.
    """
    planner = _Planner(nodes, constants, inputs, outputs, source)
    for node in nodes:
        with naming(node, source):
            planner.add(node)
    return planner.finish(inputs, outputs)


class _Planner:
    """The state of planning: what is constant, what the others look like, which steps there are."""

    def __init__(
        self, nodes: Sequence[Node], constants: Mapping[str, np.ndarray], inputs: Sequence[TensorSpec], outputs: Sequence[str], source: str
    ) -> None:
        self.source = source
        self.constants: dict[str, np.ndarray] = dict(constants)
        self.origins = {name: name for name in constants}  # constant -> the initializer that it is, up to its layout
        self.names = Names([*constants, *(name for node in nodes for name in node.outputs)])
        self.uses = Counter([name for node in nodes for name in node.inputs] + list(outputs))
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        with self.fake:
            self.values: dict[str, Value] = {spec.name: torch.zeros(spec.sized(1), dtype=spec.dtype) for spec in inputs}
        self.steps: list[Step] = []
        self.makers: dict[str, int] = {}  # value -> index of its step
        self.weights: dict[str, Tensor] = {}
        self.owned: dict[Any, Any] = {}  # what has been turned into weights already

    def add(self, node: Node) -> None:
        """Fold `node`, or plan to run it."""
        for name in node.inputs:
            if name and name not in self.constants and name not in self.values:
                raise InputError(f"{self.source}: node {node.name!r} ({node.op}) reads {name!r}, which nothing has made")
        if all(not name or name in self.constants for name in node.inputs):
            self._fold(node)
        elif not self._add_bias(node):
            self._step(*(self._linear(node) or self._leaf(node) or self._slope(node) or (node, self._arguments(node))))

    def finish(self, inputs: tuple[TensorSpec, ...], outputs: Sequence[str]) -> Plan:
        """The plan, each value dropped where it was last read."""
        results: list[Argument] = []
        specs = []
        for name in outputs:
            if name not in self.constants and name not in self.values:
                raise InputError(f"{self.source}: nothing makes the output {name!r}")
            constant = self.constants.get(name)
            value = tensor(self.values[name] if constant is None else constant)
            specs.append(TensorSpec(name, tuple(value.shape), value.dtype))
            results.append(Ref(name) if constant is None else self._loose(Node(name, "Constant", 0), name))
        needed = {result.name for result in results if isinstance(result, Ref)}
        steps = []
        for step in reversed(self.steps):
            read = {argument.name for argument in step.arguments if isinstance(argument, Ref)} | set(step.node.outputs) - {""}
            steps.append(replace(step, dead=tuple(sorted(read - needed))))
            needed |= read
        return Plan(self.source, inputs, tuple(specs), tuple(results), tuple(reversed(steps)), self.weights)

    # what is known ahead

    def _fold(self, node: Node) -> None:
        """Compute `node` now: its shapes first, then, if they are sane, its values."""
        arrays = [self.constants[name] if name else None for name in node.inputs]
        values = [value if value is None or self._on_host(node, slot, value) else tensor(value) for slot, value in enumerate(arrays)]
        stored = sum(value.size for value in arrays if value is not None)
        with self.fake, torch.no_grad():
            self._check(node, call(node, values, self.source), max(FOLDED, stored))
        with torch.no_grad():
            results = call(node, values, self.source)
        for name, result in zip(node.outputs, results, strict=False):
            self.constants[name] = result if isinstance(result, np.ndarray) else _array(result)
            if node.op in _RENAMING and node.inputs[0] in self.origins and self.constants[name].size == self.constants[node.inputs[0]].size:
                self.origins[name] = self.origins[node.inputs[0]]

    def _on_host(self, node: Node, slot: int, value: np.ndarray) -> bool:
        return slot in _HOST_SLOTS.get(node.op, ()) or value.size == 1 or value.dtype.kind in "iub" or value.dtype == object

    def _check(self, node: Node, results: Sequence[Value], limit: int) -> None:
        for result in results:
            if math.prod(result.shape) > limit:
                raise InputError(f"{self.source}: node {node.name!r} ({node.op}) makes a tensor of the absurd shape {list(result.shape)}")

    # what runs

    def _step(self, node: Node, arguments: tuple[Argument, ...]) -> None:
        values = [self.values[a.name] if isinstance(a, Ref) else self.weights[a.path] if isinstance(a, Weight) else a for a in arguments]
        with self.fake, torch.no_grad():
            results = call(node, values, self.source)
            self._check(node, results, ELEMENTS)
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                self.values[name] = result
                self.makers[name] = len(self.steps)
        self.steps.append(Step(node, arguments, shape=tuple(values[0].shape) if values and values[0] is not None else ()))

    def _arguments(self, node: Node) -> tuple[Argument, ...]:
        """Constants stay on the host where they say how, or meet only host values; where they meet data they become weights."""
        how = _HOST_SLOTS.get(node.op, frozenset())
        met = [self.values[name] for slot, name in enumerate(node.inputs) if name in self.values and slot not in how]
        return tuple(self._argument(node, slot, name, met) for slot, name in enumerate(node.inputs))

    def _argument(self, node: Node, slot: int, name: str, met: Sequence[Value]) -> Argument:
        if not name:
            return None
        if name in self.values:
            return Ref(name)
        value = self.constants[name]
        indexes = node.op == "Gather" and slot == 1 and (value.ndim == 0 or run_of(value) is not None)
        if slot in _HOST_SLOTS.get(node.op, ()) or value.size == 1 or indexes:
            return value
        meets_data = any(isinstance(other, Tensor) for other in met) or (not met and not self._on_host(node, slot, value))
        return self._loose(node, name) if meets_data else value

    def _loose(self, node: Node, name: str) -> Weight:
        """The constant `name` as a weight of its own: a parameter where it was stored as one, else a buffer."""
        if name not in self.owned:
            value = tensor(self.constants[name])
            origin = self.origins.get(name, "")
            path = self.names.loose(node, name, origin)
            self.weights[path] = nn.Parameter(value) if origin and value.dtype.is_floating_point else value
            self.owned[name] = Weight(path)
        return self.owned[name]

    def _leaf(self, node: Node) -> tuple[Node, tuple[Argument, ...]] | None:
        """A node whose weights are all constant, with them as its own."""
        stems = _LEAVES.get(node.op)
        stored = [name for name in node.inputs[1:] if name]
        if stems is None or not stored or not all(name in self.constants for name in stored):
            return None
        tensors = {stem: tensor(self.constants[name]) for stem, name in zip(stems, node.inputs[1:], strict=False) if name}
        own = self._own(node, node.op, node.inputs[1:], tensors)
        return node, (Ref(node.inputs[0]), *(own.get(stem) for stem in stems[: len(node.inputs) - 1]))

    def _own(self, node: Node, kind: str, names: Sequence[str], tensors: Mapping[str, Tensor]) -> dict[str, Weight]:
        """Weights for one leaf. The same constants again are the same leaf; one of them alone is not shared, as
        exporters store equal values once (all fresh batch norms', say) that have nothing else in common."""
        key = (kind, *names)
        if key not in self.owned:
            prefix = self.names.leaf(node, names[0], self.origins.get(names[0], ""))
            for stem, value in tensors.items():
                value = value.clone()
                self.weights[f"{prefix}.{stem}"] = value if stem.startswith("running_") else nn.Parameter(value)
            self.owned[key] = {stem: Weight(f"{prefix}.{stem}") for stem in tensors}
        return self.owned[key]

    def _linear(self, node: Node) -> tuple[Node, tuple[Argument, ...]] | None:
        """A Gemm or MatMul of data with a constant matrix as one linear layer, alpha and beta multiplied in."""
        if node.op not in ("Gemm", "MatMul") or node.get("transA", 0) or node.inputs[0] not in self.values or node.inputs[1] not in self.constants:
            return None
        weight = tensor(self.constants[node.inputs[1]])
        if weight.ndim != 2:
            return None
        tensors = {"weight": (weight if node.get("transB", 0) else weight.t()) * node.get("alpha", 1.0)}
        extra = node.inputs[2] if len(node.inputs) > 2 else ""
        if extra:
            bias = along(self.constants[extra], 1, 2, weight.shape[0 if node.get("transB", 0) else 1]) if extra in self.constants else None
            if bias is None:
                return None
            tensors["bias"] = bias * node.get("beta", 1.0)
        settings = [node.get(name) for name in ("transB", "alpha", "beta")]
        own = self._own(node, f"{LINEAR} {settings}", node.inputs[1:], {name: value.contiguous() for name, value in tensors.items()})
        return replace(node, op=LINEAR, attributes={}), (Ref(node.inputs[0]), *own.values())

    def _add_bias(self, node: Node) -> bool:
        """Give the constant that `node` adds to a bias-less layer to that layer, if the sum is its only use."""
        made = [name for name in node.inputs if name in self.makers and self.uses[name] == 1]
        added = [name for name in node.inputs if name in self.constants]
        if node.op != "Add" or len(made) != 1 or len(added) != 1:
            return False
        index = self.makers[made[0]]
        step, rank = self.steps[index], self.values[made[0]].ndim
        if step.node.op not in (LINEAR, "Conv") or len(step.arguments) != 2 or not isinstance(step.arguments[1], Weight):
            return False
        path = step.arguments[1].path
        bias = along(self.constants[added[0]], 1 if step.node.op == "Conv" else rank - 1, rank, self.weights[path].shape[0], spread=False)
        if bias is None:
            return False
        mine = path.removesuffix("weight") + "bias"
        if self.owned.setdefault(mine, added[0]) != added[0]:  # the layer is called twice, with other biases
            return False
        self.weights.setdefault(mine, nn.Parameter(bias))
        self.steps[index] = replace(step, node=replace(step.node, outputs=node.outputs), arguments=(*step.arguments, Weight(mine)))
        value = self.values.pop(made[0])
        self.values[node.outputs[0]], self.makers[node.outputs[0]] = value, index
        return True

    def _slope(self, node: Node) -> tuple[Node, tuple[Argument, ...]] | None:
        """A PRelu with one constant slope a channel, or one in all, with it as its weight."""
        if node.op != "PRelu" or node.inputs[1] not in self.constants or self.values[node.inputs[0]].ndim < 2:
            return None
        x, slope = self.values[node.inputs[0]], self.constants[node.inputs[1]]
        weight = tensor(slope).reshape(1) if slope.size == 1 else along(slope, 1, x.ndim, x.shape[1])
        if weight is None:
            return None
        own = self._own(node, node.op, node.inputs[1:], {"weight": weight})
        return node, (Ref(node.inputs[0]), own["weight"])


def along(value: np.ndarray, axis: int, rank: int, length: int, *, spread: bool = True) -> Tensor | None:
    """`value`, if it broadcasts over all axes of a tensor of rank `rank` but `axis`, as its `length` entries; else None.

    Args:
        spread: one entry in all may stand for `length` equal ones.
    """
    shape = (1,) * (rank - value.ndim) + value.shape
    if len(shape) != rank or value.size != shape[axis] or value.size not in ((1, length) if spread else (length,)):
        return None
    return tensor(value).reshape(-1).expand(length).clone()


def _array(value: Tensor) -> np.ndarray:
    if value.dtype == torch.bfloat16:
        import ml_dtypes

        return value.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return value.contiguous().numpy()
