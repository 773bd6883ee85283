"""What training minimises: cross entropy, squared error, and distillation from a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compresskit.errors import InputError, UsageError

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From the model, inputs (N, ...) and targets (N, ...) to a scalar: the mean loss over the N samples."""


def supervised(label_smoothing: float = 0.0) -> Objective:
    """The default: `loss` of the model's output."""
    return lambda module, x, y: loss(predict(module, x), y, label_smoothing=label_smoothing)


def distillation(teacher: nn.Module, *, temperature: float = 4.0, weight: float = 0.9, label_smoothing: float = 0.0) -> Objective:
    """Learn from a teacher's soft targets and from the labels: `(1 - weight) CE(y, s) + weight T^2 KL(softmax(t/T) || softmax(s/T))`.

    `s` and `t` are the logits (N, classes) of student and teacher; `T^2` keeps the gradients of both terms in proportion.
    Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network". The teacher is put into evaluation mode.

    Raises:
        UsageError: `temperature` is not positive, or `weight` not in [0, 1].
    """
    if not temperature > 0:
        raise UsageError(f"a distillation temperature of {temperature:g} is not possible: give a positive number")
    if not 0 <= weight <= 1:
        raise UsageError(f"a distillation weight of {weight:g} is out of range: give one from 0 to 1")
    teacher.eval()

    def objective(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            soft = F.log_softmax(predict(teacher, x).float() / temperature, dim=1)
        student = predict(module, x).float()
        divergence = F.kl_div(F.log_softmax(student / temperature, dim=1), soft, reduction="batchmean", log_target=True)
        return (1 - weight) * loss(student, y, label_smoothing=label_smoothing) + weight * temperature**2 * divergence

    return objective


def predict(module: nn.Module, x: Tensor) -> Tensor:
    """The one output of `module` for `x`.

    Raises:
        UsageError: it has several, or one that is no tensor.
    """
    out: Any = module(x)
    if isinstance(out, tuple | list) and len(out) == 1:
        out = out[0]
    if not isinstance(out, Tensor):
        raise UsageError("the model puts out other than one tensor, and labels do not say which to train: give an objective")
    return out


def loss(out: Tensor, y: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy for integer targets, mean squared error for others; computed in fp32.

    Args:
        out: logits (N, classes, ...) for classes; (N, ...) for numbers.
        y: classes (N, ...) int64; numbers of as many entries as `out`.
    """
    if is_classes(y):
        return F.cross_entropy(out.float(), y, label_smoothing=label_smoothing)
    return F.mse_loss(out.float().reshape(y.shape), y.float())


def is_classes(y: Tensor) -> bool:
    """Whether targets are class numbers rather than quantities."""
    return not y.is_floating_point()


def check_targets(out: Tensor, y: np.ndarray) -> None:
    """Compare what a model puts out for one batch with the targets `y` of all samples.

    Raises:
        InputError: there are more classes than outputs, or maps of classes or numbers of another shape.
    """
    if np.issubdtype(y.dtype, np.integer):
        if tuple(out.shape[2:]) != y.shape[1:]:
            maps = [" x ".join(map(str, shape)) or "one" for shape in (y.shape[1:], out.shape[2:])]
            raise InputError(f"the labels are {maps[0]} a sample, but the model puts out {maps[1]}: expected as many of both")
        outputs = out.shape[1] if out.ndim > 1 else 1
        if y.size and not 0 <= y.min() <= y.max() < outputs:
            raise InputError(f"the labels run from {y.min()} to {y.max()}, but the model has {outputs} outputs: expected 0 to {outputs - 1}")
    elif out[0].numel() != y[0].size:
        raise InputError(f"the targets have {y[0].size} numbers a sample, but the model puts out {out[0].numel()}")
