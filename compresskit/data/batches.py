"""Batches of a split: chosen, augmented, moved and normalized, as tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch

from compresskit.data.augment import crop_and_flip
from compresskit.data.dataset import Split
from compresskit.data.normalization import normalize
from compresskit.errors import UsageError
from compresskit.models.graph import Normalization

Augment = Literal["none", "crop-flip"]


def batches(
    split: Split,
    normalization: Normalization,
    size: int,
    *,
    shuffle: torch.Generator | None = None,
    augment: Augment = "none",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    start: int = 0,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One pass over a split in `ceil(N / size)` batches (x in `dtype` or token ids, y as stored).

    Shuffled, the batches are of nearly equal size, so that no batch norm meets a lone sample at the end. In order, all are
    of `size` but the last. `shuffle` is drawn from twice at the call and not again: a pass that was begun at the same state
    and starts at batch `start` gives the same batches from there on.

    Args:
        shuffle: on the CPU; None for stored order.
        augment: "crop-flip" for images while training; needs `shuffle`.

    Raises:
        UsageError: a size below 1, or images are to be augmented and there are none, or have a class a pixel.
        ValueError: augmentation in stored order.
    """
    if size < 1:
        raise UsageError(f"the batch size must be at least 1, got {size}")
    if augment != "none" and split.x.ndim != 4:
        raise UsageError(f"augmentation by {augment} needs images; samples have shape {split.x.shape[1:]}")
    if augment != "none" and split.y.ndim > 2:
        raise UsageError(f"augmentation by {augment} would move pixels from under their labels: give --augment none")
    if augment != "none" and shuffle is None:
        raise ValueError("augmentation needs the generator that shuffles")
    count = -(-len(split) // size)
    if shuffle is None:
        chunks = [np.arange(first, min(first + size, len(split))) for first in range(0, len(split), size)]
        return _generate(split, normalization, chunks, None, device, dtype, start)
    chunks = np.array_split(torch.randperm(len(split), generator=shuffle).numpy(), count)
    seed = int(torch.randint(2**62, (), generator=shuffle))
    return _generate(split, normalization, chunks, seed if augment == "crop-flip" else None, device, dtype, start)


def _generate(
    split: Split,
    normalization: Normalization,
    chunks: list[np.ndarray],
    augment_seed: int | None,
    device: torch.device | str,
    dtype: torch.dtype,
    start: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for number, chosen in enumerate(chunks[start:], start):
        x = torch.from_numpy(split.x[chosen]).to(device)
        if augment_seed is not None:
            x = crop_and_flip(x, torch.Generator().manual_seed(augment_seed + number))
        values = normalize(x, normalization)
        yield values.to(dtype) if values.is_floating_point() else values, torch.from_numpy(split.y[chosen]).to(device)
