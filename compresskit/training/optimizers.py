"""The optimizer of a run, and which of its tensors decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from compresskit.errors import UsageError
from compresskit.training.config import TrainConfig


def make_optimizer(module: nn.Module, config: TrainConfig, parameters: Iterable[dict[str, Any]] | None = None) -> torch.optim.Optimizer:
    """Make the optimizer that `config` names.

    Args:
        parameters: its groups; None: all parameters that require gradients, without weight decay on those of fewer than two dimensions.

    Raises:
        UsageError: there is nothing to train.
    """
    groups = [{**group, "params": list(group["params"])} for group in (_default_groups(module) if parameters is None else parameters)]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise UsageError("nothing to train: no parameter requires a gradient")
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=config.momentum, nesterov=config.momentum > 0, weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, config.lr, betas=(config.momentum, 0.999), weight_decay=config.weight_decay)


def _default_groups(module: nn.Module) -> list[dict[str, Any]]:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [{"params": [p for p in trained if p.ndim > 1]}, {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}]
