"""Batches in which every class has its share: a saliency sees few samples, and does not know the classes that it never sees."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from compresskit.data.dataset import Split
from compresskit.data.normalization import normalize
from compresskit.errors import InputError, UsageError
from compresskit.models.graph import Normalization
from compresskit.pruning.at_init.base import Batch
from compresskit.wording import listed

PER_CLASS = 10  # Wang et al. 2020, as the thesis's section 3.4.2 has it
NUMBERS = 100  # samples of a batch where there are no classes


def balanced_batches(
    split: Split, normalization: Normalization, classes: int | None, *, seed: int, size: int | None = None, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Batches without end, a new one each time: no class has two samples more than another, and none repeats one before all were there.

    Args:
        classes: their number; None where targets are no class numbers: samples are drawn at large then.
        size: samples a batch; None: ten times the number of classes.

    Raises:
        UsageError: a size below 1.
        InputError: a class has no sample, or there is no sample at all.
    """
    if size is not None and size < 1:
        raise UsageError(f"the batch size must be at least 1, got {size}")
    pools = [np.arange(len(split))] if classes is None else [np.flatnonzero(split.y == label) for label in range(classes)]
    missing = [str(label) for label, pool in enumerate(pools) if not len(pool)]
    if missing and classes is None:
        raise InputError("there are no samples to score on: expected at least one")
    if missing:
        raise InputError(
            f"the training samples have none of class {listed(missing)}: a batch needs all {classes} classes; add samples or remap labels"
        )
    return _generate(split, normalization, pools, size or (NUMBERS if classes is None else PER_CLASS * classes), seed, device)


def _generate(
    split: Split, normalization: Normalization, pools: list[np.ndarray], size: int, seed: int, device: torch.device | str
) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    turns = _shuffled_forever(np.arange(len(pools)), rng)
    samples = [_shuffled_forever(pool, rng) for pool in pools]
    while True:
        chosen = np.array([next(samples[turn]) for turn in islice(turns, size)])
        yield normalize(torch.from_numpy(split.x[chosen]).to(device), normalization), torch.from_numpy(split.y[chosen]).to(device)


def _shuffled_forever(values: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    """All of `values` in random order, then again in another, without end."""
    while True:
        yield from rng.permutation(values).tolist()
