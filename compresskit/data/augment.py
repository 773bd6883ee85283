"""Random crops and flips of a whole batch of images at once."""

from __future__ import annotations

import torch

from compresskit.data.layout import channel_axis

_SHIFT = 8


def crop_and_flip(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Shift each image by up to an eighth of its size (4 pixels of 32) and mirror every other one, left to right.

    What comes in from outside is the image's own reflection. One gather for the batch.

    Args:
        x: (N, C, H, W) or (N, H, W, C).
        rng: on the CPU; the choices are the same on every device.
    """
    channels_first = channel_axis(tuple(x.shape[1:])) == 0
    height, width = x.shape[2:] if channels_first else x.shape[1:3]
    rows = _shifted(height, len(x), rng)
    columns = _shifted(width, len(x), rng)
    mirrored = torch.rand(len(x), 1, generator=rng) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    source = (rows[:, :, None] * width + columns[:, None, :]).flatten(1).to(x.device)
    if channels_first:
        return x.flatten(2).gather(2, source[:, None, :].expand(-1, x.shape[1], -1)).view_as(x)
    return x.flatten(1, 2).gather(1, source[:, :, None].expand(-1, -1, x.shape[3])).view_as(x)


def _shifted(size: int, count: int, rng: torch.Generator) -> torch.Tensor:
    """(count, size) indices: 0..size-1 shifted by a random amount for each row, reflected at both ends."""
    reach = size // _SHIFT
    shift = torch.randint(-reach, reach + 1, (count, 1), generator=rng)
    index = (torch.arange(size) + shift).abs()
    return size - 1 - (size - 1 - index).abs()
