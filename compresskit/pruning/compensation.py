"""What cut channels carried, taken over by those that stay: least squares over the inputs of every layer that lost some.

A layer computes `y = W x`. Where only the entries `k` of `x` stay, the weights that come closest to `y` over the data are

    W' = W C[:, k] C[k, k]^-1        with C the covariance of x

He, Zhang and Sun 2017, "Channel pruning for accelerating very deep neural networks", equation 5, in closed form: since y
is linear in x, C is all that needs to be gathered, in one pass over a few batches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compresskit.models.graph import ModelGraph
from compresskit.pruning.coupling import Coupling

POSITIONS = 16  # drawn from each image: neighbours say nearly the same
RIDGE = 1e-3  # of the mean variance, added to every variance
LARGEST = 5000  # inputs of a layer, kernel positions counted: the covariance is the square of that


class Moments:
    """Sums over the inputs that one layer met."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.total = torch.zeros(size)
        self.square = torch.zeros(size, size)

    def add(self, rows: Tensor) -> None:
        self.count += len(rows)
        self.total += rows.sum(0)
        self.square.addmm_(rows.T, rows)

    def mean(self) -> Tensor:
        return self.total.double() / self.count

    def covariance(self) -> Tensor:
        mean = self.mean()
        return self.square.double() / self.count - mean[:, None] * mean[None, :]


def compensate(graph: ModelGraph, coupling: Coupling, keep: np.ndarray, smaller: ModelGraph, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Refit, in place, the weights of those layers of `smaller` that lost inputs to the cut `keep` of `graph`.

    Convolutions over images without groups and linear layers are refitted, others left as cut; norms need fresh statistics afterwards.
    """
    lost = {name: mask for name in _layers(graph) if not (mask := _columns(graph, coupling, keep, name)).all()}
    moments = gather(graph.module, list(lost), batches)
    for name, mask in lost.items():
        _refit(graph.module.get_submodule(name), smaller.module.get_submodule(name), _rows(coupling, keep, name), mask, moments[name])


def _layers(graph: ModelGraph) -> list[str]:
    """Layers that can be refitted, each called once."""
    calls = [str(node.target) for node in graph.module.graph.nodes if node.op == "call_module"]
    return [name for name in dict.fromkeys(calls) if calls.count(name) == 1 and fits(graph.module.get_submodule(name))]


def fits(layer: Any) -> bool:
    """Whether `layer` can be refitted: it multiplies all its inputs with one matrix that is not too large."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and not isinstance(layer.padding, str) and layer.weight[0].numel() <= LARGEST
    return isinstance(layer, nn.Linear) and layer.in_features <= LARGEST


def _columns(graph: ModelGraph, coupling: Coupling, keep: np.ndarray, name: str) -> np.ndarray:
    """Which of a layer's inputs stay, kernel positions counted: (in * kernel,) bool."""
    weight = graph.module.get_parameter(f"{name}.weight")
    labels = coupling.tensors[f"{name}.weight"][1]
    stay = np.ones(weight.shape[1], dtype=bool) if labels is None else keep[labels]
    return stay.repeat(weight[0, 0].numel())


def _rows(coupling: Coupling, keep: np.ndarray, name: str) -> np.ndarray | slice:
    labels = coupling.tensors[f"{name}.weight"][0]
    return slice(None) if labels is None else keep[labels]


@torch.no_grad()
def gather(module: nn.Module, names: list[str], batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Moments]:
    """Moments of the inputs of the named layers of an uncut network, which is put into evaluation mode."""
    rng = torch.Generator().manual_seed(0)
    layers: dict[str, Any] = {name: module.get_submodule(name) for name in names}
    moments = {name: Moments(layer.weight[0].numel()) for name, layer in layers.items()}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs, found=moments[name]: found.add(_samples(layer, inputs[0], rng)))
        for name, layer in layers.items()
    ]
    try:
        for x, _ in batches:
            module.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
    return moments


def _samples(layer: Any, x: Tensor, rng: torch.Generator) -> Tensor:
    """Some of the vectors that the layer multiplies its weights with: (n, in * kernel)."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    patches = F.unfold(x, layer.kernel_size, dilation=layer.dilation, padding=layer.padding, stride=layer.stride)
    picked = torch.randint(patches.shape[-1], (POSITIONS,), generator=rng)
    return patches[..., picked].transpose(1, 2).reshape(-1, patches.shape[1])


@torch.no_grad()
def _refit(before: Any, after: Any, rows: np.ndarray | slice, columns: np.ndarray, moments: Moments) -> None:
    weight = before.weight[rows].flatten(1).double()
    stay = torch.from_numpy(columns)
    covariance = moments.covariance()
    inner = covariance[stay][:, stay]
    inner += RIDGE * inner.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny) * torch.eye(len(inner), dtype=torch.float64)
    # Ridge towards the weights as they are, so that inputs that never vary keep theirs.
    fitted = weight[:, stay] + torch.linalg.solve(inner, (weight[:, ~stay] @ covariance[~stay][:, stay]).T).T
    after.weight.copy_(fitted.reshape(after.weight.shape))
    if after.bias is not None:
        mean = moments.mean()
        shift = weight @ mean - fitted @ mean[stay]
        after.bias.add_(shift.to(after.bias.dtype))
