"""ONNX models as ModelGraphs.

    ModelProto ──parse──► nodes, constants ──plan──► steps, weights ──► Interpreter ──torch.export, lift──► ModelGraph

The interpreter is an `nn.Module` that runs the steps one after another on PyTorch; exporting it leaves plain ATen calls
and folds all arithmetic on shapes.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace

import onnx
import torch
from torch import Tensor, nn

from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph, random_inputs
from compresskit.models.lift import graph_from_module
from compresskit.models.onnx_batch import rebatched
from compresskit.models.onnx_ops.values import Value, tensor
from compresskit.models.onnx_parse import read_initializers, read_inputs, read_nodes
from compresskit.models.onnx_plan import Argument, Plan, Ref, Weight, call, naming, plan

TOLERANCE = 1e-5
"""How far a batch run at once may be from its samples run alone, as a fraction of the largest output."""


def import_onnx(model: onnx.ModelProto, *, source: str, input_shape: tuple[int, ...] | None = None) -> ModelGraph:
    """Read an ONNX model (checked already, its external data loaded).

    A batch that the file bakes into its shapes is freed where three samples at once give what they give one by one:
    `free_batch` then holds although the inputs keep the file's shape.

    Args:
        source: what to call the model in messages and reports.
        input_shape: sizes of the first input behind its batch axis, where the file leaves them open.

    Raises:
        InputError: operators that are not supported (all named at once), or a node that cannot be read exactly.
    """
    nodes = read_nodes(model, source)
    inputs = read_inputs(model, source, input_shape)
    outputs = [value.name for value in model.graph.output]
    planned = plan(nodes, read_initializers(model, source), inputs, outputs, source)
    graph = _freed(planned)
    if graph is None:
        fixed = tuple(replace(spec, shape=spec.sized(1)) for spec in inputs)
        graph = graph_from_module(Interpreter(planned), fixed, source=source, free_batch=False)
    open_batch = graph.free_batch and inputs[0].shape[:1] == (None,)
    specs = [replace(spec, shape=(None, *spec.shape[1:])) if open_batch else spec for spec in planned.outputs]
    return replace(graph, outputs=tuple(specs))


def _freed(planned: Plan) -> ModelGraph | None:
    """The graph for any batch, if there is one."""
    if len({spec.shape[:1] for spec in planned.inputs}) != 1 or not _batch_free(planned):
        return None
    try:
        return graph_from_module(Interpreter(planned, freed=True), planned.inputs, source=planned.source, free_batch=True)
    except InputError:  # runs at any batch, but not symbolically
        return None


def _batch_free(planned: Plan) -> bool:
    """Whether three batches run at once give what they give one by one.

    Raises:
        InputError: the model does not even run at its own batch.
    """
    if any(not spec.shape for spec in planned.inputs):
        return False
    batch = planned.inputs[0].sized(1)[0]
    samples = random_inputs(planned.inputs, 3 * batch, free_batch=True)
    alone = Interpreter(planned)
    with torch.no_grad():
        parts = [alone(*(sample[start : start + batch] for sample in samples)) for start in range(0, 3 * batch, batch)]
        try:
            together = Interpreter(planned, freed=True)(*samples)
        except InputError:
            return False
    return all(_agree(whole, [part[index] for part in parts]) for index, whole in enumerate(together))


def _agree(whole: Tensor, parts: Sequence[Tensor]) -> bool:
    if not all(part.ndim for part in parts):
        return False
    stacked = torch.cat(list(parts))
    if whole.shape != stacked.shape:
        return False
    if not whole.dtype.is_floating_point:
        return torch.equal(whole, stacked)
    finite = stacked[torch.isfinite(stacked)].abs()
    scale = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(whole, stacked, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True)


class Interpreter(nn.Module):
    """Runs a plan. With `freed`, reshapes that name the file's batch follow the batch that comes in."""

    def __init__(self, planned: Plan, *, freed: bool = False) -> None:
        super().__init__()
        self._plan = planned
        self._baked = planned.inputs[0].sized(1)[0] if freed else None
        for path, value in planned.weights.items():
            _place(self, path, value)
        self.forward = self._with_signature()

    def _with_signature(self) -> Callable[..., tuple[Tensor, ...]]:
        """`_run` with one named argument an input: torch.export gives sizes meaning by the signature."""

        def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
            return self._run(inputs)

        count = range(len(self._plan.inputs))
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = inspect.Signature([inspect.Parameter(f"input_{i}", kind) for i in count])  # type: ignore[attr-defined]
        return forward

    def _run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        values: dict[str, Value] = {spec.name: value for spec, value in zip(self._plan.inputs, inputs, strict=True)}
        for step in self._plan.steps:
            arguments = [self._value(argument, values) for argument in step.arguments]
            if self._baked is not None:
                with naming(step.node, self._plan.source):
                    arguments = rebatched(step, arguments, self._baked, inputs[0].shape[0])
            results = call(step.node, arguments, self._plan.source)
            values.update(zip(step.node.outputs, results, strict=False))
            for name in step.dead:
                values.pop(name, None)
        found = (self._value(result, values) for result in self._plan.results)
        return tuple(tensor(value) for value in found if value is not None)

    def _value(self, argument: Argument, values: dict[str, Value]) -> Value | None:
        if isinstance(argument, Ref):
            return values[argument.name]
        if isinstance(argument, Weight):
            return operator.attrgetter(argument.path)(self)
        return argument


def _place(root: nn.Module, path: str, value: Tensor) -> None:
    """Give `root` the tensor `value` under `path`, modules on the way made where missing."""
    *scopes, stem = path.split(".")
    for scope in scopes:
        if scope not in root._modules:
            root.add_module(scope, nn.Module())
        root = root.get_submodule(scope)
    if isinstance(value, nn.Parameter):
        root.register_parameter(stem, value)
    else:
        root.register_buffer(stem, value)
