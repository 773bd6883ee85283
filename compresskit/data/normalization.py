"""Choosing, computing and applying a `Normalization`. uint8 is divided by 255 first, whatever its shape; floats never are.

int64 is token ids, which stay as they are.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from compresskit.data.layout import channel_axis
from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.models.graph import Normalization

_CHUNK_VALUES = 2**22
IDENTITY = Normalization((0.0,), (1.0,))


def choose_normalization(
    x: np.ndarray, explicit: Normalization | None, checkpoint: Normalization | None, delivered_by: str | None = None
) -> tuple[Normalization, str]:
    """The normalization of training samples `x` and where it is from; what the user says wins over what the model says.

    `delivered_by`: the user's own code that made `x`; its floats are taken as they are unless the user says otherwise.

    Raises:
        UsageError: the explicit one does not fit the samples, or these are token ids.
        InputError: the checkpoint's does not.
    """
    if x.dtype == np.int64:
        if explicit:
            raise UsageError("--mean/--std are for numbers: the model takes token ids")
        return IDENTITY, "none, for token ids"
    if explicit:
        return _checked(explicit, x.shape[1:], "--mean/--std", UsageError), "--mean/--std"
    if delivered_by and x.dtype != np.uint8:
        return IDENTITY, f"as delivered by {delivered_by}"
    if checkpoint:
        return _checked(checkpoint, x.shape[1:], "the checkpoint's normalization", InputError), "checkpoint"
    return compute_normalization(x), f"computed from {len(x)} training samples"


def compute_normalization(x: np.ndarray) -> Normalization:
    """Mean and standard deviation of samples (N, ...): a value a channel for images and volumes, a value a column for rows of floats, else one value.

    Constant channels get a standard deviation of 1. Chunks are merged by Chan, Golub and LeVeque's update (1983), in float64.
    """
    axis = _statistics_axis(x)
    axes = tuple(a for a in range(x.ndim) if a != axis)
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    step = max(1, _CHUNK_VALUES // max(1, math.prod(x.shape[1:])))
    for start in range(0, len(x), step):
        chunk = x[start : start + step].astype(np.float64)
        size = chunk.size // (1 if axis is None else x.shape[axis])
        chunk_mean = chunk.mean(axis=axes, keepdims=True)
        delta = chunk_mean.ravel() - mean
        total = count + size
        squares = squares + np.square(chunk - chunk_mean).sum(axis=axes) + delta**2 * (count * size / total)
        mean = mean + delta * (size / total)
        count = total
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    std = np.sqrt(squares / count) / scale
    return Normalization(_floats(mean / scale), _floats(np.where(std > 0, std, 1.0)))


def normalize(x: torch.Tensor, normalization: Normalization) -> torch.Tensor:
    """A batch (N, ...), uint8 or floating, as float32: `(x / 255 - mean) / std`, or `(x - mean) / std` where `x` was floating; ids as they are."""
    if x.dtype == torch.int64:
        return x
    values = x.to(torch.float32, copy=True)
    if x.dtype == torch.uint8:
        values.div_(255.0)
    return values.sub_(_spread(normalization.mean, x)).div_(_spread(normalization.std, x))


def _spread(entries: tuple[float, ...], x: torch.Tensor) -> torch.Tensor:
    tensor = torch.tensor(entries, dtype=torch.float32, device=x.device)
    if len(entries) == 1:
        return tensor
    axis = channel_axis(tuple(x.shape[1:]))
    shape = [1] * (x.ndim - 1)
    shape[axis] = -1
    return tensor.view(shape)


def _statistics_axis(x: np.ndarray) -> int | None:
    """The axis of `x` along which statistics differ: channels, or the columns of a table."""
    if x.ndim >= 4:
        return 1 if channel_axis(x.shape[1:]) == 0 else x.ndim - 1
    return 1 if x.ndim == 2 and x.dtype != np.uint8 else None


def _checked(normalization: Normalization, sample: tuple[int, ...], name: str, error: type[CompresskitError]) -> Normalization:
    channels = sample[channel_axis(sample)] if sample else 1
    for entries in (normalization.mean, normalization.std):
        if len(entries) not in (1, channels):
            raise error(
                f"{name}: {len(entries)} values, but samples of shape {sample} have {channels} channel{'s' * (channels != 1)}; give 1 or {channels}"
            )
        if not all(map(math.isfinite, entries)):
            raise error(f"{name}: expected finite numbers, got {entries}")
    if min(normalization.std) <= 0:
        raise error(f"{name}: standard deviations must be above 0, got {normalization.std}")
    return normalization


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values.ravel())
