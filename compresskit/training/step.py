"""One update of the model, and the guards around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NoReturn

import torch
from torch import Tensor, nn

from compresskit.errors import GuardError
from compresskit.training.config import TrainConfig
from compresskit.training.objectives import Objective
from compresskit.training.precision import autocast
from compresskit.training.ranks import Ranks
from compresskit.training.schedule import factor


@dataclass(frozen=True)
class Stepper:
    """What all updates of a run have in common.

    Attributes:
        rates: the highest learning rate of each group of the optimizer.
        layout: of images.
        total: number of updates of the whole run.
    """

    module: nn.Module
    objective: Objective
    after_step: Callable[[int], None] | None
    optimizer: torch.optim.Optimizer
    rates: tuple[float, ...]
    config: TrainConfig
    precision: Literal["fp32", "bf16"]
    layout: torch.memory_format
    ranks: Ranks
    total: int

    def __call__(self, step: int, x: Tensor, y: Tensor) -> float:
        """Make update `step` in [0, total) on one batch of all ranks; return the loss before it.

        Raises:
            GuardError: the loss, the gradient or the updated parameters are not finite. The model then needs to be restored.
        """
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor(step, self.total, self.config)
        loss, gradients = self._gradients(x, y)
        if not math.isfinite(loss):
            self._stop(step, "the loss", x)
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            self._stop(step, "the gradient", x)
        if self.config.clip is not None:
            nn.utils.clip_grads_with_norm_(self._parameters(), self.config.clip, norm)
        self.optimizer.step()
        if self.after_step:
            self.after_step(step + 1)
        if not torch.isfinite(nn.utils.get_total_norm(self._parameters())):
            self._stop(step, "a parameter", x)
        return loss

    def _gradients(self, x: Tensor, y: Tensor) -> tuple[float, list[Tensor]]:
        """Leave in the parameters the gradient of the mean loss over the samples of all ranks; return loss and gradients."""
        share, targets = self.ranks.share(x), self.ranks.share(y)
        if share.ndim == 4:
            share = share.contiguous(memory_format=self.layout)
        self.optimizer.zero_grad()
        with autocast(self.precision, x.device):
            loss = self.objective(self.module, share, targets)
        loss.backward()
        mean = loss.detach().float().clone()
        gradients = [parameter.grad for parameter in self._parameters() if parameter.grad is not None]
        self.ranks.average([mean, *gradients], len(share) / len(x))
        self.ranks.copy_from_first(list(self.module.buffers()))
        return mean.item(), gradients

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _stop(self, step: int, what: str, x: Tensor) -> NoReturn:
        where = f"training stopped at step {step + 1} of {self.total}"
        if not torch.isfinite(x).all():
            raise GuardError(f"{where}: its inputs hold NaN or infinite values; clean the data")
        rate = self.optimizer.param_groups[0]["lr"]
        raise GuardError(f"{where}: {what} became NaN or infinite; lower the learning rate (here {rate:.3g}) or clip the gradient")
