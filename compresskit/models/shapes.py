"""What every node of a graph computes, without computing it: shapes, types and aliasing on fake tensors."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from compresskit.errors import InputError
from compresskit.models.graph import ELEMENTS, ModelGraph, input_shapes
from compresskit.wording import first_line


def shapes(graph: ModelGraph, batch: int = 1) -> dict[str, Any]:
    """`propagate` from the graph's own inputs, at `batch` where the graph runs at any batch and at its own batch elsewhere.

    Raises:
        InputError: as `propagate`.
    """
    sizes = input_shapes(graph.inputs, batch, free_batch=graph.free_batch)
    return propagate(graph.module, [torch.empty(shape, dtype=spec.dtype) for spec, shape in zip(graph.inputs, sizes, strict=True)])


def propagate(module: fx.GraphModule, inputs: Sequence[Tensor]) -> dict[str, Any]:
    """What each node of `module` yields on `inputs`, keyed by the node's name.

    Tensors come back as FakeTensors: shape, strides, dtype and device as in a real run, views sharing the storage of
    what they view, and no data. Lists, tuples and numbers come back as they are. Nothing is written: parameters are
    not copied, running statistics not moved, and leaves in training mode are read as in evaluation.

    Raises:
        InputError: a node does not fit its inputs, its result's shape hangs on their values, or it makes a tensor or a number of absurd size;
            the message names it.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        recorder = _Recorder(module, mode)
        recorder.run(*(mode.from_tensor(value) for value in inputs))
    return recorder.values


def tensors(value: Any) -> list[FakeTensor]:
    """The tensors in one value of `propagate`, in order."""
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors(item)]
    return [value] if isinstance(value, FakeTensor) else []


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps every node's value."""

    def __init__(self, module: fx.GraphModule, mode: FakeTensorMode) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.extra_traceback = False  # it would append the whole graph to every error
        self.mode = mode
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except Exception as error:  # operators raise whatever they like on shapes that do not fit
            line = first_line(error)
            raise InputError(f"node {n.name!r} ({n.target}) does not fit its inputs: {line}") from error
        if any(tensor.numel() > ELEMENTS for tensor in tensors(value)) or (isinstance(value, int) and abs(value) > sys.maxsize):
            raise InputError(f"node {n.name!r} ({n.target}) makes a tensor or a number of absurd size")
        self.values[n.name] = value
        return value

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        return self.mode.from_tensor(value) if isinstance(value, Tensor) else value

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            if args[0].shape[1] != len(module.running_mean):
                raise ValueError(f"expected {len(module.running_mean)} channels, got {args[0].shape[1]}")
            return torch.empty_like(args[0])  # running it would be most of the time of a pass
        if module.training:  # some leaves in training refuse a batch of one
            module = copy.copy(module)
            module.training = False
        return module(*args, **kwargs)
