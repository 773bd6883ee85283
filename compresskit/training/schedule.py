"""How the learning rate changes over a run: a pure function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compresskit.training.config import TrainConfig

_START, _END = 1 / 25, 1 / 25e4
"""One-cycle: the rates of the first and of the last step, as fractions of the highest."""


def factor(step: int, total: int, config: TrainConfig) -> float:
    """The learning rate of step `step` in [0, total), as a fraction of `config.lr`.

    constant: 1. cosine: from 1 down to 0 at `total` (Loshchilov and Hutter 2017). multistep: a tenth for each milestone passed.
    one-cycle: up from 1/25 over the warm-up, then down to 4e-6, both along a cosine (Smith and Topin 2018).
    A warm-up of the other three rises linearly to the rate that the schedule begins with.
    """
    if config.schedule == "one-cycle":
        return _one_cycle(step, total, 0.3 if config.warmup is None else config.warmup)
    warmup = (config.warmup or 0.0) * total
    if step + 1 < warmup:
        return (step + 1) / warmup
    done = max(step - warmup, 0.0) / (total - warmup)
    if config.schedule == "cosine":
        return _cosine(1.0, 0.0, done)
    if config.schedule == "multistep":
        return 0.1 ** sum(step >= milestone * total for milestone in config.milestones)
    return 1.0


def _one_cycle(step: int, total: int, warmup: float) -> float:
    peak = max(warmup * total - 1, 0.0)
    if step < peak:
        return _cosine(_START, 1.0, step / peak)
    last = total - 1
    return _cosine(1.0, _END, (step - peak) / (last - peak)) if last > peak else 1.0


def _cosine(start: float, end: float, done: float) -> float:
    """From `start` to `end` along half a period of a cosine, `done` in [0, 1]."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
