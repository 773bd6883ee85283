"""ModelGraph: the one editable form that every model file is read into and every model file is written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

ELEMENTS = 1 << 31
"""Most entries of one tensor: whatever asks for more is damaged, or made to exhaust memory."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: as in the file that it came from.
        shape: sizes; None marks a size that the file leaves open (in practice the batch, axis 0).
        dtype: element type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype = torch.float32

    def sized(self, batch: int) -> tuple[int, ...]:
        """The shape with `batch` in place of every open size."""
        return tuple(batch if size is None else size for size in self.shape)


@dataclass(frozen=True)
class Normalization:
    """What a model expects its pixels to be: `(pixel / 255 - mean) / std`, one entry a channel (or one for all).

    For inputs that are not images: `(value - mean) / std`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ModelGraph:
    """A model as an fx graph whose parametrised operators are `nn.Module` leaves and whose other operators are ATen calls.

    Attributes:
        module: the graph. Convolutions, linear layers, norms, embeddings and dropout are `call_module` nodes named
            after their parameters (`layer1.0.conv1`); everything else is a `call_function` node of an ATen overload, or
            `get_attr` of a parameter or buffer. No baked batch size where `free_batch`.
        inputs: the placeholders, in order.
        outputs: the results, in order.
        free_batch: whether the graph runs at any batch size. It can be True although the file's batch is fixed
            (`inputs[0].shape[0]` is a number), for training; the file's own batch is what is exported again.
        source: where it came from, for reports.
        arch: name or `module:factory` that built it, where there is one.
        normalization: of its inputs, where the file says.
        classes: names of the classes, where the file says.
    """

    module: fx.GraphModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    free_batch: bool = True
    source: str = ""
    arch: str | None = None
    normalization: Normalization | None = None
    classes: tuple[str, ...] | None = None

    def example(self, batch: int = 2, *, seed: int = 0) -> tuple[torch.Tensor, ...]:
        """Random inputs as `random_inputs` draws them, ids that every embedding knows. Where the graph's batch is baked, it wins over `batch`."""
        known = min((module.num_embeddings for module in self.module.modules() if isinstance(module, nn.Embedding)), default=1)
        return random_inputs(self.inputs, batch, free_batch=self.free_batch, seed=seed, ids=known)

    def with_module(self, module: fx.GraphModule) -> ModelGraph:
        """The same model around another graph."""
        return replace(self, module=module)


def random_inputs(specs: Sequence[TensorSpec], batch: int, *, free_batch: bool, seed: int = 0, ids: int = 1) -> tuple[torch.Tensor, ...]:
    """Random tensors for `specs`, of their `input_shapes`: standard normal where floating, from 0 to `ids` - 1 elsewhere."""
    rng = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(shape, generator=rng).to(spec.dtype)
        if spec.dtype.is_floating_point
        else torch.randint(0, ids, shape, generator=rng).to(spec.dtype)
        for spec, shape in zip(specs, input_shapes(specs, batch, free_batch=free_batch), strict=True)
    )


def input_shapes(specs: Sequence[TensorSpec], batch: int, *, free_batch: bool) -> list[tuple[int, ...]]:
    """The shapes of `specs` in a run. Open sizes become `batch`; with `free_batch`, axis 0 does too where the file fixes it."""
    shapes = [spec.sized(batch) for spec in specs]
    return [(batch, *shape[1:]) if free_batch and shape else shape for shape in shapes]


def leaf(graph: ModelGraph | fx.GraphModule, node: fx.Node) -> nn.Module:
    """The module that a `call_module` node calls."""
    module = graph.module if isinstance(graph, ModelGraph) else graph
    return module.get_submodule(str(node.target))
