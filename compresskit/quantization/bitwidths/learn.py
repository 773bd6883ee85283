"""Mixed widths from data: what `quantize --size` and `--bit-ops` do after static quantization.

Quantized ──► grids at 2, 4, 8 bits ──search_widths──► a width a layer ──► emit ──train_quantized──► Quantized
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from compresskit.data import Dataset
from compresskit.errors import TargetError, UsageError
from compresskit.progress import SILENT, Progress
from compresskit.quantization.bitwidths.cost import WIDTHS, WidthCost, width_cost
from compresskit.quantization.bitwidths.nested import nested_grid
from compresskit.quantization.bitwidths.search import SEARCH, search_widths
from compresskit.quantization.config import Quantity, QuantizeConfig
from compresskit.quantization.correction import corrected_biases
from compresskit.quantization.emit import emit_static
from compresskit.quantization.engine import weight_bits
from compresskit.quantization.grid import Grid
from compresskit.quantization.qat.engine import train_quantized
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.weights import least_scale
from compresskit.report import SearchPoint
from compresskit.training.tuning import Checkpointing


@dataclass(frozen=True)
class Mixed:
    """A network of mixed widths.

    Attributes:
        quantity, asked: the target.
        widths: bits by weight; 8 where 7 are used because sums of 8-bit products overflow.
        reached: the fraction of float32's cost that they come to.
        path: of the search.
    """

    done: Quantized
    quantity: Quantity
    asked: float
    widths: dict[str, int]
    reached: float
    path: tuple[SearchPoint, ...]


def learn_widths(
    start: Quantized,
    data: Dataset,
    config: QuantizeConfig,
    quantity: Quantity,
    goal: float,
    *,
    device: torch.device | None = None,
    kept: Checkpointing | None = None,
    threads: int = 1,
    progress: Progress = SILENT,
) -> Mixed:
    """Learn a width for every layer's weights, and train under them.

    Args:
        start: static quantization at any width of weights, for the grids of its activations.
        config: its `method` names the quantizer to train with, LSQ where it names none.
        goal: the fraction of what float32 costs.

    Raises:
        TargetError: 2 bits everywhere cost more.
        UsageError: 8 bits everywhere cost no more, or nothing is to be trained.
        GuardError: training diverged.
    """
    assert start.plan is not None, "activations have grids"
    cost = width_cost(start.network, start.plan.layers, quantity, config.activations)
    check_goal(cost, quantity, goal, config)
    grids = level_grids(start, weight_bits(replace(config, weights=WIDTHS[-1])))
    found = search_widths(start, grids, cost, goal, data, config, device=device, kept=kept, progress=progress)
    mixed = with_widths(start, {name: grids[name][WIDTHS.index(width)] for name, width in found.widths.items()})
    rest = replace(config, method="lsq" if config.method == "ptq" else config.method, epochs=config.epochs * (1 - SEARCH))
    done = train_quantized(mixed, data, rest, device=device, kept=kept, threads=threads, progress=progress)
    return Mixed(done, quantity, goal, found.widths, cost.of(found.widths), found.path)


def check_goal(cost: WidthCost, quantity: Quantity, goal: float, config: QuantizeConfig) -> None:
    """Refuse what widths of 2, 4 and 8 bits cannot be learned for.

    Raises:
        TargetError, UsageError: as `learn_widths`.
    """
    if config.epochs == 0:
        raise UsageError(f"--{quantity} learns widths: --epochs takes a number above 0")
    if goal < cost.floor:
        raise TargetError(f"--{quantity} {goal:g} is out of reach: weights of 2 bits everywhere come to {cost.floor:.4f}; ask for that or more")
    if goal >= cost.ceiling:
        raise UsageError(f"--{quantity} {goal:g}: weights of 8 bits everywhere come to {cost.ceiling:.4f}; ask for less, or leave it out")


def level_grids(start: Quantized, widest: int) -> dict[str, tuple[Grid, ...]]:
    """Grids at each of `WIDTHS` for every weight, by its name; 8 bits are `widest` bits."""
    assert start.plan is not None
    constants = start.network.constants
    least: dict[str, np.ndarray] = {}
    axes: dict[str, int] = {}
    for layer in start.plan.layers:
        axes[layer.weight] = layer.axis
        if layer.bias is not None:
            needed = least_scale(constants[layer.bias], start.activations[layer.input])
            least[layer.weight] = np.maximum(least.get(layer.weight, 0.0), needed)
    bits = (*WIDTHS[:-1], widest)
    return {name: tuple(nested_grid(constants[name], width, axis, least.get(name, 0.0)) for width in bits) for name, axis in axes.items()}


def with_widths(start: Quantized, grids: Mapping[str, Grid]) -> Quantized:
    """The same static quantization with other grids of weights, emitted anew."""
    assert start.plan is not None
    corrected = corrected_biases(start.network, start.plan.layers, grids, start.statistics)
    model = emit_static(start.network.edited(start.network.nodes, corrected), start.plan, grids, start.activations)
    return replace(start, model=model, weights=grids, rounded=corrected, integrity=None)
