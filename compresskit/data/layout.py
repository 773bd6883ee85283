"""Bringing stored arrays to the shape that a model takes, where there is only one way to read them."""

from __future__ import annotations

import numpy as np

from compresskit.errors import InputError

_CHANNEL_COUNTS = (1, 3, 4)


def channel_axis(shape: tuple[int, ...]) -> int:
    """The axis of one sample that holds channels: 0, or -1 for (H, W, C) with an ordinary C.

    >>> channel_axis((3, 32, 32)), channel_axis((32, 32, 3)), channel_axis((1, 28, 28))
    (0, -1, 0)
    """
    return -1 if len(shape) == 3 and shape[-1] in _CHANNEL_COUNTS and shape[0] not in _CHANNEL_COUNTS else 0


def image_size(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(channels, height, width) of an image input, be it NCHW, NHWC or grey without a channel axis.

    Raises:
        InputError: it is not an image.
    """
    if len(shape) == 2:
        shape = (1, *shape)
    channels = shape[channel_axis(shape)] if len(shape) == 3 else 0
    if channels not in _CHANNEL_COUNTS:
        raise InputError(f"image files need a model that takes images of 1, 3 or 4 channels; this one takes {shape}")
    return (channels, shape[0], shape[1]) if channel_axis(shape) else (channels, shape[1], shape[2])


def shape_samples(x: np.ndarray, target: tuple[int, ...], name: str = "data") -> np.ndarray:
    """`x` with samples of shape `target`.

    Done: NHWC <-> NCHW; axes of size one added or dropped; grey images or signals flattened, or the reverse
    (28x28 <-> 784). Not done, as it could be read in two ways: flattening several channels.

    Raises:
        InputError: samples of another shape.
    """
    sample = x.shape[1:]
    if sample == target:
        return x
    if len(sample) == len(target) == 3:
        moved = np.moveaxis(x, -1, 1) if channel_axis(target) == 0 else np.moveaxis(x, 1, -1)
        if moved.shape[1:] == target:
            return moved
    if _reads_one_way(_squeezed(sample), _squeezed(target)):
        return x.reshape(len(x), *target)
    raise InputError(f"{name}: samples have shape {sample}, but the model takes {target}")


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _reads_one_way(sample: tuple[int, ...], target: tuple[int, ...]) -> bool:
    if sample == target:
        return True
    short, long = sorted((sample, target), key=len)
    return len(short) == 1 and len(long) == 2 and short[0] == long[0] * long[1]
