"""How good a model is on a split, with the interval that the size of the split allows; and fresh norm statistics after a cut."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from compresskit.data.batches import batches
from compresskit.data.dataset import Split
from compresskit.errors import InputError
from compresskit.models.graph import Normalization
from compresskit.report import Accuracy
from compresskit.training.objectives import check_targets, is_classes, loss, predict
from compresskit.training.precision import autocast, device_of

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Evaluation:
    """Figures of one model on one split.

    Attributes:
        count: predictions judged: samples, or their entries where there are several a sample.
        loss: mean cross entropy (nats) or mean squared error.
        accuracy: fraction of right classes; None where targets are numbers.
        interval: Wilson's 95% interval of the accuracy.
        iou: mean over the classes of intersection over union, where there are several classes a sample (pixels); None elsewhere.
        rmse: root of the mean squared error, in units of the targets; None for classes.
    """

    count: int
    loss: float
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    rmse: float | None = None
    iou: float | None = None


def as_accuracy(found: Evaluation, samples: int) -> Accuracy:
    """The one figure of `found` that a report shows, of a split of so many samples: mean IOU of maps, top-1 of classes, RMSE of numbers."""
    if found.accuracy is None or found.interval is None:
        return Accuracy(found.rmse or 0.0, None, None, found.count, "rmse")
    if found.iou is not None:
        return Accuracy(found.iou, None, None, samples, "mean IOU")
    return Accuracy(found.accuracy, *found.interval, found.count)


@torch.no_grad()
def evaluate(
    module: nn.Module, split: Split, normalization: Normalization, *, batch_size: int = 256, precision: Literal["fp32", "bf16"] = "fp32"
) -> Evaluation:
    """Measure `module` in evaluation mode, on the device where it is. Its modes are as before afterwards.

    Raises:
        UsageError: the model has several outputs.
        InputError: the split is empty, or its targets do not fit the outputs.
    """
    if len(split.x) == 0:
        raise InputError("there are no samples to evaluate on: expected at least one")
    device = device_of(module)
    total, right, count, classes = 0.0, 0, 0, False
    overlaps: list[Tensor] = []
    with evaluating(module), autocast(precision, device):
        for x, y in batches(split, normalization, batch_size, device=device):
            out, classes = predict(module, x), is_classes(y)
            if count == 0:
                check_targets(out, split.y)
            total += loss(out, y).item() * y.numel()
            if classes:
                chosen = out.argmax(1)
                right += int((chosen == y).sum())
                overlaps += [_overlap(chosen, y, out.shape[1])] if y.ndim > 1 else []
            count += y.numel()
    if classes:
        iou = _mean_iou(torch.stack(overlaps).sum(0)) if overlaps else None
        return Evaluation(count, total / count, accuracy=right / count, interval=wilson(right, count), iou=iou)
    return Evaluation(count, total / count, rmse=math.sqrt(total / count))


def _overlap(chosen: Tensor, y: Tensor, classes: int) -> Tensor:
    """(3, classes): how often each class was chosen rightly, chosen, and right."""
    return torch.stack([torch.bincount(labels.flatten(), minlength=classes) for labels in (chosen[chosen == y], chosen, y)])


def _mean_iou(overlap: Tensor) -> float:
    """Over the classes that were chosen or right anywhere (Everingham et al., "The Pascal Visual Object Classes Challenge", 2015)."""
    hits, chosen, right = overlap
    union = chosen + right - hits
    return float((hits[union > 0] / union[union > 0]).mean())


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927); it stays within [0, 1] and is right for few samples too."""
    p, z2 = right / count, _Z95**2 / count
    centre = (p + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * p * (1 - p) + z2**2 / 4) / (1 + z2)
    return (centre - half if right else 0.0), (centre + half if right < count else 1.0)


@torch.no_grad()
def recalibrate_batchnorm(module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Estimate the running statistics of all batch norms anew, as the plain average over `batches` of inputs and targets.

    After a cut the old statistics describe activations that are gone. Nothing else changes, not even dropout acts.

    Returns:
        The number of norms re-estimated.

    Raises:
        InputError: there are norms, but no batches.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None]
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    seen = 0
    with evaluating(module):
        try:
            for x, _ in batches:
                if not seen:
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.momentum = None  # torch's way of saying: a cumulative average
                        norm.train()
                module(x)
                seen += 1
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    if not seen:
        raise InputError("there are no samples to re-estimate batch norms on: expected at least one batch")
    return len(norms)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, each submodule's own mode again outside."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode
