"""Exported programs lifted to editable graphs: parametrised ATen calls become `nn.Module` leaves.

nn.Module ──torch.export──► ExportedProgram ──lift──► fx.GraphModule ──► ModelGraph
             (flat ATen)                     conv2d(x, w, b)  becomes  self.layer1.0.conv1(x)
                                             relu_(x)         becomes  relu(x)
"""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph, Normalization, TensorSpec, random_inputs
from compresskit.models.leaves import LEAVES
from compresskit.wording import first_line

aten = torch.ops.aten


def graph_from_module(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    *,
    source: str,
    arch: str | None = None,
    normalization: Normalization | None = None,
    free_batch: bool | None = None,
) -> ModelGraph:
    """Export `module` in evaluation mode and lift it.

    Args:
        inputs: what its forward takes; axis 0 is the batch.
        free_batch: True: must run at any batch; False: at the batch of `inputs` (1 where open); None: any batch if it can.

    Raises:
        InputError: the module cannot be exported (data-dependent control flow, a wrong input shape ...).
    """
    module = module.eval()
    failure: Exception | None = None
    for free in (True, False) if free_batch is None else (free_batch,):
        try:
            program = _export(module, inputs, free)
        except Exception as error:  # torch.export raises whatever the traced code or its own solver raises
            failure = failure or error
            continue
        outputs = _outputs(program)
        if free and any(spec.shape and spec.shape[0] is not None for spec in outputs):
            failure = failure or ValueError("an output does not begin with the batch")
            continue
        specs = tuple(inputs if free else (replace(spec, shape=spec.sized(1)) for spec in inputs))
        return ModelGraph(lift(program), specs, outputs, free, source, arch, normalization)
    assert failure is not None
    raise InputError(f"{source}: torch.export cannot trace this model on inputs {_shapes(inputs)}: {first_line(failure)}") from failure


def lift(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """An exported program as a graph module with leaves.

    Convolutions, linear layers, norms, embeddings and dropout become `call_module` nodes named after their parameters; in-place
    calls become functional; the program's values are unchanged, to the bit.

    Raises:
        InputError: the program writes to its buffers or its inputs.
    """
    flat = program.module(check_guards=False)
    graph = fx.Graph()
    tensors = {**dict(flat.named_parameters(remove_duplicate=False)), **dict(flat.named_buffers(remove_duplicate=False))}
    lifter = _Lifter(flat, tensors, graph)
    for node in flat.graph.nodes:
        lifter.copy(node)
    graph.eliminate_dead_code(_is_impure)
    graph.lint()
    return fx.GraphModule(lifter.root(), graph, class_name="Lifted").eval()


class _Lifter:
    """Copies nodes from the flat graph, replacing as it goes."""

    def __init__(self, flat: fx.GraphModule, tensors: dict[str, torch.Tensor], graph: fx.Graph) -> None:
        self.flat, self.tensors, self.graph = flat, tensors, graph
        self.new: dict[fx.Node, fx.Node] = {}
        self.leaves: dict[str, tuple[Any, nn.Module]] = {}

    def copy(self, node: fx.Node) -> None:
        if node.op == "call_function":
            self.new[node] = self._leaf_call(node) or self._call(node)
        elif node.op == "output":
            results = [self.new[arg] for arg in _flatten(node.args[0])]
            self.graph.output(results[0] if len(results) == 1 else tuple(results))
        elif node.op != "call_module" or str(node.target) != "_guards_fn":
            self.new[node] = self.graph.node_copy(node, lambda old: self.new[old])
        if node in self.new:
            self.new[node].meta = {}

    def root(self) -> dict[str, Any]:
        """What the new graph's targets resolve to."""
        used = {str(node.target) for node in self.graph.nodes if node.op == "get_attr"}
        values: dict[str, Any] = {name: leaf for name, (_, leaf) in self.leaves.items()}
        for name in used:
            values[name] = self.tensors[name] if name in self.tensors else operator.attrgetter(name)(self.flat)
        return values

    def _call(self, node: fx.Node) -> fx.Node:
        target = node.target
        if target is aten.copy_.default:
            raise InputError(f"the model writes to {node.args[0]} while it runs: stateful models are not supported")
        functional = _functional(target)
        args = fx.map_arg(node.args, lambda old: self.new[old])
        kwargs = fx.map_arg(node.kwargs, lambda old: self.new[old])
        made = self.graph.create_node("call_function", functional, args, kwargs, name=node.name.rstrip("_"))
        if functional is not target:  # whoever reads the overwritten value later reads the result
            written = self.new[node.args[0]]  # type: ignore[index]
            self.new.update({old: made for old, new in self.new.items() if new is written})
        return made

    def _leaf_call(self, node: fx.Node) -> fx.Node | None:
        """`node` as a call of a module leaf, where its operator has one and its weights are plain parameters."""
        make = LEAVES.get(node.target)
        if make is None:
            return None
        bound = bind(node)
        weights = {name: self._tensor(value) for name, value in bound.items() if isinstance(value, fx.Node)}
        operands = [name for name, tensor in weights.items() if tensor is None]
        if len(operands) != 1:
            return None
        (operand,) = operands
        del weights[operand]
        settings = {name: value for name, value in bound.items() if not isinstance(value, fx.Node)}
        module = make(weights, settings)
        if module is None:
            return None
        name = self._file(module, node, {key: str(bound[key].target) for key in weights})
        return self.graph.create_node("call_module", name, (self.new[bound[operand]],), name=name.replace(".", "_"))

    def _tensor(self, node: fx.Node) -> torch.Tensor | None:
        return self.tensors.get(str(node.target)) if node.op == "get_attr" else None

    def _file(self, module: nn.Module, node: fx.Node, sources: dict[str, str]) -> str:
        """File `module` under a free name derived from its weight's; the same call of the same weights shares one leaf."""
        identity = (node.target, tuple(sorted(sources.items())), repr(module))
        base = _leaf_name(sources.get("weight") or next(iter(sources.values()), "")) or node.name
        name, count = base, 0
        while (name in self.leaves and self.leaves[name][0] != identity) or self._clashes(name):
            count += 1
            name = f"{base}_{count}"
        self.leaves.setdefault(name, (identity, module))
        return name

    def _clashes(self, name: str) -> bool:
        """A leaf may not contain another leaf, and not stand where the graph reads a tensor."""
        return name in self.tensors or any(other.startswith(f"{name}.") or name.startswith(f"{other}.") for other in self.leaves)


def bind(node: fx.Node) -> dict[str, Any]:
    """The arguments of an ATen call by name, defaults filled in."""
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    given = dict(zip((argument.name for argument in arguments), node.args, strict=False)) | dict(node.kwargs)
    return {argument.name: given.get(argument.name, argument.default_value) for argument in arguments}


def _functional(target: Any) -> Any:
    """The functional twin of an in-place ATen overload (`relu_` to `relu`); anything else unchanged."""
    if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
        return target
    name = target._schema.name.removeprefix("aten::")
    packet = getattr(aten, name.removesuffix("_"), None) if name.endswith("_") else None
    if packet is None or target._overloadname not in packet.overloads():
        raise InputError(f"the model calls {name}, which changes its argument in place and has no functional form")
    return getattr(packet, target._overloadname)


def _leaf_name(parameter: str) -> str:
    """`layer1.0.conv1.weight` to `layer1.0.conv1`; `attn.in_proj_weight` to `attn.in_proj`; others keep their own name."""
    prefix, _, stem = parameter.rpartition(".")
    stem = stem.removesuffix("weight").rstrip("_")
    return ".".join(part for part in (prefix, stem) if part)


def _flatten(value: Any) -> Iterable[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flatten(item)
    elif isinstance(value, dict):
        yield from _flatten(list(value.values()))
    else:
        yield value


def _is_impure(node: fx.Node) -> bool:
    return node.op in ("placeholder", "output")


def _export(module: nn.Module, inputs: Sequence[TensorSpec], free: bool) -> torch.export.ExportedProgram:
    example = random_inputs(inputs, 2 if free else 1, free_batch=free)
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} if tensor.ndim else None for tensor in example) if free else None
    with _quiet():
        return torch.export.export(module, example, dynamic_shapes=shapes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.export warns, logs and prints, graphs and all, before it raises: the error is enough."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _outputs(program: torch.export.ExportedProgram) -> tuple[TensorSpec, ...]:
    results = next(node for node in program.graph.nodes if node.op == "output").args[0]
    values = [node.meta["val"] for node in results]
    names = ["output"] if len(values) == 1 else [f"output_{index}" for index in range(len(values))]
    sizes = [tuple(size if isinstance(size, int) else None for size in value.shape) for value in values]
    return tuple(TensorSpec(name, shape, value.dtype) for name, shape, value in zip(names, sizes, values, strict=True))


def _shapes(inputs: Sequence[TensorSpec]) -> str:
    return ", ".join("x".join("N" if size is None else str(size) for size in spec.shape) for spec in inputs)
