"""New samples of a data set: train a denoiser on its training split, and draw from it.

Classes come along: images and rows are drawn for as many of each as the training data have. Where the target is a number it is one more
column of the table, drawn with the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compresskit.data import Dataset, Split
from compresskit.errors import InputError, UsageError
from compresskit.models.graph import Normalization
from compresskit.progress import SILENT, Progress
from compresskit.recommend.diffusion.denoiser import Denoiser, denoising
from compresskit.recommend.diffusion.networks import Perceptron, UNet
from compresskit.training import TrainConfig, train

BATCH = 256
_HALVES = Normalization((0.5,), (0.5,))  # pixels to -1..1


@dataclass(frozen=True)
class GenerateConfig:
    """How samples are generated.

    Attributes:
        count: how many.
        epochs: of the denoiser's training.
        width: of its network; None: 32 for images, 256 for tables.
        steps: of drawing (DDIM).
        guidance: towards the class; 0: none.
    """

    count: int
    epochs: float = 20.0
    width: int | None = None
    steps: int = 50
    guidance: float = 0.5
    learning_rate: float = 2e-3
    checkpoint: Path | None = None
    checkpoint_minutes: float = 5.0
    resume: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.steps < 1:
            raise UsageError(f"samples and steps are 1 or more, not {self.count} and {self.steps}")


@dataclass(frozen=True)
class _Prepared:
    """The training split as the denoiser takes it, in the form that `train` reads."""

    train: Split
    normalization: Normalization
    validation: None = None


def generate(data: Dataset, config: GenerateConfig, progress: Progress = SILENT) -> Split:
    """Samples and targets like those of the training split of `data`, in its units.

    Raises:
        InputError: samples are neither images nor rows.
        GuardError: training diverged.
    """
    if data.train.x.dtype == np.int64 or data.train.y.ndim > 1 or data.train.x.ndim not in (2, 4):
        raise InputError("only images and rows of numbers, with one target each, can be generated")
    prepared, classes = _prepared(data), data.classes or 0
    channels = prepared.train.x.shape[1]
    torch.manual_seed(config.seed)
    network: nn.Module = UNet(channels, classes, config.width or 32) if data.train.x.ndim == 4 else Perceptron(channels, classes, config.width or 256)
    denoiser = Denoiser(network, classes)
    settings = TrainConfig(
        epochs=config.epochs,
        optimizer="adamw",
        lr=config.learning_rate,
        weight_decay=0.0,
        clip=1.0,
        checkpoint=config.checkpoint,
        checkpoint_minutes=config.checkpoint_minutes,
        resume=config.resume,
        seed=config.seed,
    )
    groups = [{"params": list(denoiser.network.parameters())}]
    train(denoiser, prepared, settings, objective=denoising, after_step=denoiser.average, parameters=groups, progress=progress)
    return _drawn(denoiser, data, prepared, config, progress)


def _prepared(data: Dataset) -> _Prepared:
    """Pixels as they are; rows standardized, the target in a last column where it is a number."""
    x, y = data.train.x, data.train.y
    if data.train.x.ndim == 4:
        images = x if x.dtype == np.uint8 else _standardized(x)
        return _Prepared(Split(images, y), _HALVES if x.dtype == np.uint8 else Normalization((0.0,), (1.0,)))
    rows = x.astype(np.float32) if data.classes is not None else np.column_stack([x, y]).astype(np.float32)
    labels = y if data.classes is not None else np.zeros(len(y), np.int64)
    return _Prepared(Split(_standardized(rows), labels), Normalization((0.0,), (1.0,)))


def _drawn(denoiser: Denoiser, data: Dataset, prepared: _Prepared, config: GenerateConfig, progress: Progress) -> Split:
    rng = np.random.default_rng(config.seed)
    labels = prepared.train.y[rng.choice(len(prepared.train.y), config.count)]
    pixels = prepared.train.x.dtype == np.uint8
    parts = list(_batches(denoiser, labels, prepared.train.x.shape[1:], config, 1.0 if pixels else None, progress))
    values = np.concatenate(parts)
    if pixels:
        return Split(np.clip(np.rint((values + 1) * 127.5), 0, 255).astype(np.uint8), labels)
    original = data.train.x if data.train.x.ndim == 4 or data.classes is not None else np.column_stack([data.train.x, data.train.y])
    mean, std = _moments(original)
    restored = (values * std + mean).astype(np.float32)
    if data.classes is not None:
        return Split(restored, labels)
    return Split(restored[:, :-1], restored[:, -1])


def _batches(
    denoiser: Denoiser, labels: np.ndarray, shape: tuple[int, ...], config: GenerateConfig, bound: float | None, progress: Progress
) -> Iterator[np.ndarray]:
    generator = torch.Generator().manual_seed(config.seed)
    progress.stage("draw", len(labels))
    for first in range(0, len(labels), BATCH):
        chosen = torch.from_numpy(labels[first : first + BATCH])
        yield denoiser.draw(chosen, shape, steps=config.steps, guidance=config.guidance, generator=generator, bound=bound).numpy()
        progress.advance(len(chosen))


def _standardized(values: np.ndarray) -> np.ndarray:
    mean, std = _moments(values)
    return ((values - mean) / std).astype(np.float32)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, or of each channel of images."""
    axes = (0,) if values.ndim == 2 else (0, 2, 3)
    std = values.std(axes, keepdims=True)
    return values.mean(axes, keepdims=True), np.where(std > 0, std, 1.0)
