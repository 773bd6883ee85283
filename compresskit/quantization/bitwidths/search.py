"""The search: a network whose weights are nested residuals, trained while their gates close.

    Quantized ──► nested weights, rounded activations ──train, Control──► gates ──► nearest_widths

Its weights are left behind, as those of the search for channels are: training under the widths that were found begins from the original ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compresskit.data import Dataset
from compresskit.progress import SILENT, Progress
from compresskit.quantization.bitwidths.assign import learned_widths, nearest_widths
from compresskit.quantization.bitwidths.control import Control
from compresskit.quantization.bitwidths.cost import WidthCost
from compresskit.quantization.bitwidths.nested import Nested, residual_noise
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.grid import Grid
from compresskit.quantization.plan import make_plan
from compresskit.quantization.qat.engine import LEARNING_RATES
from compresskit.quantization.qat.network import trainable
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.quantizers import FakeQuant
from compresskit.report import SearchPoint
from compresskit.training import distillation, train
from compresskit.training.tuning import Checkpointing, on_device, train_config

SEARCH = 0.25  # of the epochs
RISE = 0.3  # fraction of the search in which the learning rate rises
LOWEST = 0.2  # of the gates to begin with; the highest is near 1
TRAVEL = 0.5  # how far the loss alone can move a gate within the search
POINTS = 64  # of the path that is reported

Levels = Mapping[str, tuple[Grid, ...]]
"""The grids of each weight, by its name, at each of `WIDTHS`."""


@dataclass(frozen=True)
class Searched:
    """What the gates say.

    Attributes:
        widths: bits by weight.
        path: of lambda and of the cost.
    """

    widths: dict[str, int]
    path: tuple[SearchPoint, ...]


class GatedNetwork(nn.Module):
    """A network to train, and its gates.

    Attributes:
        mask: (weights, 2) the gates of 4 and of 8 bits.
        log: what `Control` noted; kept here, so that a checkpoint holds it.
    """

    log: Tensor

    def __init__(self, start: Quantized, grids: Levels, mask: Tensor, log: Tensor, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.mask = nn.Parameter(mask)
        self.register_buffer("log", log)
        assert start.plan is not None, "activations have grids"
        nested = {name: Nested(levels, self.mask, row) for row, (name, levels) in enumerate(grids.items())}
        rounded = {members[0]: FakeQuant(start.activations[members[0]]) for members in start.plan.sets}
        self.network = trainable(start.network, start.plan, nested, rounded, input_shape=input_shape)

    def forward(self, *inputs: Any) -> Any:
        return self.network(*inputs)

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Groups for the optimizer: weights decay, biases and norms do not, and gates neither, which learn at their own `rate`."""
        trained = [parameter for name, parameter in self.named_parameters() if name != "mask"]
        return [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
            {"params": [self.mask], "lr": rate, "weight_decay": 0.0},
        ]


def search_widths(
    start: Quantized,
    grids: Levels,
    cost: WidthCost,
    goal: float,
    data: Dataset,
    config: QuantizeConfig,
    *,
    device: torch.device | None = None,
    kept: Checkpointing | None = None,
    progress: Progress = SILENT,
) -> Searched:
    """Train gates for a part of the epochs until what is open costs `goal`, a fraction that the cost can reach.

    Args:
        start: static quantization, for the grids of activations.
    Raises:
        GuardError: training diverged.
    """
    device, epochs = device or torch.device("cpu"), config.epochs * SEARCH
    steps = max(1, round(epochs * -(-len(data.train) // config.batch_size)))
    rate = TRAVEL / steps
    module = GatedNetwork(start, grids, starting_gates(start, grids, cost), torch.zeros(min(POINTS, steps), 3), data.train.x.shape[1:])
    settings = train_config(config, data, epochs=epochs, rate=LEARNING_RATES[config.optimizer], kept=kept, phase=1)
    settings = replace(settings, schedule="constant", warmup=RISE, precision="fp32")
    objective = None
    if data.classes is not None and config.distill:
        teacher = trainable(start.network, make_plan(start.network), input_shape=data.train.x.shape[1:]).to(device)
        objective = distillation(teacher, weight=config.distill, label_smoothing=config.label_smoothing)
    with on_device(module, device):
        control = Control(module.mask, module.log, cost, goal, steps, rate)
        train(module, data, settings, objective=objective, after_step=control, parameters=module.parameter_groups(rate), progress=progress)
    widths = nearest_widths(cost, learned_widths(module.mask.detach().numpy()), goal)
    path = tuple(SearchPoint((number + 1) / len(module.log), *values) for number, values in enumerate(module.log.tolist()))
    return Searched(widths, path)


def starting_gates(start: Quantized, grids: Levels, cost: WidthCost) -> Tensor:
    """(weights, 2) gates, evenly spaced in the order of what closing them adds to the weights' noise for each byte or operation that it saves."""
    noise = np.stack([residual_noise(start.network.constants[name], grids[name]) for name in cost.names])
    scores = torch.from_numpy(noise / np.maximum(cost.steps, 1e-9)).flatten()
    ranks = scores.argsort(stable=True).argsort()
    return (LOWEST + (1 - LOWEST) * (ranks + 0.5) / len(scores)).float().reshape(noise.shape)
