"""torch-pruning, driven as its documentation says: its README, and the settings of its own CIFAR-10 script (reproduce/main.py).

sparse training (optional) ──► 400 small steps at a final ratio of 1.0, until the MACs are at the goal ──► fine-tuning by the caller
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch_pruning as tp
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from compresskit.models.graph import ModelGraph, leaf

STEPS = 400
CLOSE = 0.01
OUTPUT_SIDE = (tp.prune_conv_out_channels, tp.prune_linear_out_channels)


def heads(graph: ModelGraph) -> set[str]:
    """The layers whose outputs are the model's own, with nothing but arithmetic in between: they are to be left whole."""
    found: set[str] = set()
    waiting = list(next(node for node in graph.module.graph.nodes if node.op == "output").all_input_nodes)
    for node in waiting:
        if node.op == "call_module" and isinstance(leaf(graph, node), nn.Linear | nn.modules.conv._ConvNd):
            found.add(str(node.target))
        else:
            waiting += [source for source in node.all_input_nodes if source not in waiting]
    return found


def group_norm(module: nn.Module, graph: ModelGraph, *, global_pruning: bool, sparse: bool) -> tp.pruner.GroupNormPruner:
    """`group_norm` of their script, or with `sparse` its `group_sl`: regularised, and normalized by the maximum.

    Args:
        graph: `module`, lifted.
    """
    importance = tp.importance.GroupMagnitudeImportance(p=2, normalizer="max" if sparse else "mean")
    return tp.pruner.GroupNormPruner(module, *graph.example(1), importance, reg=5e-4, **_steps(module, graph, global_pruning))


def bn_scale(module: nn.Module, graph: ModelGraph, *, global_pruning: bool, sparse: bool) -> tp.pruner.BNScalePruner:
    """`slim` of their script, with the coefficient of its documented command."""
    return tp.pruner.BNScalePruner(module, *graph.example(1), tp.importance.BNScaleImportance(), reg=1e-5, **_steps(module, graph, global_pruning))


def _steps(module: nn.Module, graph: ModelGraph, global_pruning: bool) -> dict[str, Any]:
    return {
        "global_pruning": global_pruning,
        "pruning_ratio": 1.0,
        "max_pruning_ratio": 1.0,
        "iterative_steps": STEPS,
        "ignored_layers": [module.get_submodule(name) for name in heads(graph)],
    }


@contextmanager
def regularized(pruner: tp.pruner.BasePruner, module: nn.Module) -> Iterator[None]:
    """Add the pruner's regularizer to the gradients between `loss.backward()` and `optimizer.step()`."""
    pruner.update_regularizer()
    hook = register_optimizer_step_pre_hook(lambda *_: pruner.regularize(module))
    try:
        yield
    finally:
        hook.remove()


def prune_to(pruner: tp.pruner.BasePruner, goal: float, macs: dict[nn.Module, int]) -> None:
    """Step until the MACs are within 1% of `goal`.

    One channel of a wide group can be worth more than that, so groups are cut one by one (their "interactive pruning"), and those that
    would end below are passed over.

    Args:
        macs: of each convolution and linear layer before the cut; those of ungrouped layers are proportional to their weights.
    """
    positions = {layer: count // layer.weight.numel() for layer, count in macs.items()}
    now = float(sum(macs.values()))
    for _ in range(STEPS):
        for group in pruner.step(interactive=True):
            after = _macs_after(group, positions)
            if after >= goal * (1 - CLOSE):
                group.prune()
                now = after
            if now <= goal * (1 + CLOSE):
                return
    raise RuntimeError(f"torch-pruning ended at {now:.0f} MACs instead of {goal:.0f}")


def _macs_after(group: tp.dependency.Group, positions: dict[nn.Module, int]) -> float:
    shapes = {layer: list(layer.weight.shape) for layer in positions}
    for dependency, channels in group:
        layer = dependency.target.module
        if layer in shapes:
            shapes[layer][0 if dependency.handler in OUTPUT_SIDE else 1] -= len(channels)
    return float(sum(positions[layer] * math.prod(shape) for layer, shape in shapes.items()))
