"""Carving a held-out part from samples: seeded, and stratified by class."""

from __future__ import annotations

import numpy as np

from compresskit.data.dataset import Split
from compresskit.errors import InputError


def hold_out(split: Split, fraction: float, rng: np.random.Generator) -> tuple[Split, Split]:
    """(rest, held out), the latter `fraction` of each class, both in stored order.

    A class with at least two samples is in both; a class with one stays in the rest. Where samples have no class of their own, but values
    to regress or a class a pixel, they are drawn at large.

    Raises:
        InputError: too few samples to hold any out.
    """
    classified = split.y.dtype == np.int64 and split.y.ndim == 1
    groups = [np.flatnonzero(split.y == label) for label in np.unique(split.y)] if classified else [np.arange(len(split))]
    held = np.zeros(len(split), bool)
    for group in groups:
        count = min(max(round(fraction * len(group)), 1), len(group) - 1)
        held[rng.permutation(group)[:count]] = True
    if not held.any():
        raise InputError(f"{len(split)} samples are too few to hold any out for validation")
    return _take(split, ~held), _take(split, held)


def _take(split: Split, chosen: np.ndarray) -> Split:
    return Split(split.x[chosen], split.y[chosen])
