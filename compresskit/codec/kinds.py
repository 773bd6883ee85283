"""What the base networks of one modality have in common: the grid of a training patch, and how they are trained unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compresskit.codec.coordinates import grid, sphere
from compresskit.codec.encoder import is_globe
from compresskit.codec.exact import ACTIVATION_BITS
from compresskit.codec.levels import to_levels
from compresskit.codec.metatrain import TrainBaseConfig
from compresskit.codec.planes import COLOUR
from compresskit.codec.signal import Signal
from compresskit.codec.start import globe_axes, regridded


@dataclass(frozen=True)
class Kind:
    """Base networks of one modality.

    Attributes:
        edges: of a training patch; of the globe latitudes and longitudes, to which all files' are brought (at least so many: see `for_data`).
        channels: of a patch.
        config: of the training where nothing else is asked.
        block: patches along each axis that expectations of neighbours are learned from, where signals are as large.
        geometry: as in `Base`.
    """

    edges: tuple[int, ...]
    channels: int
    config: TrainBaseConfig
    block: int = 1
    geometry: str = "grid"

    @property
    def axes(self) -> tuple[NDArray[np.float64], ...]:
        """Latitudes and longitudes of a training patch on the globe, else ()."""
        return globe_axes(self.edges) if self.geometry == "sphere" else ()

    @property
    def grid(self) -> tuple[int, ...]:
        """Edges of a training patch whose samples lie on a grid, else ()."""
        return () if self.geometry == "sphere" else self.edges

    def coordinates(self) -> Tensor:
        """(N, dims) where the samples of a training patch lie, in [-1, 1]."""
        points = sphere(*globe_axes(self.edges)) if self.geometry == "sphere" else grid(self.edges)
        return torch.from_numpy(points).float() / 2**ACTIVATION_BITS

    def suits(self, signal: Signal) -> bool:
        """Whether patches can be taken from `signal`."""
        if self.geometry == "sphere":
            return is_globe(signal)
        spatial = signal.values.shape[1:-1]
        return len(spatial) == len(self.edges) and all(size >= edge for size, edge in zip(spatial, self.edges, strict=True))

    def for_data(self, signals: Sequence[Signal]) -> Kind:
        """This kind, with a training patch for `signals`: the globe's is as fine as the finest of them, though not over twice its usual edges."""
        if self.geometry != "sphere":
            return self
        finest = (max(sizes) for sizes in zip(*(signal.values.shape[1:-1] for signal in signals), strict=True))
        return replace(self, edges=tuple(min(max(edge, size), 2 * edge) for edge, size in zip(self.edges, finest, strict=True)))

    def frames(self, signal: Signal) -> Tensor:
        """Frames (frames, *spatial, channels) of `signal` in 0..1, with the channels of this kind; of the globe on the training patch's grid."""
        levels = torch.from_numpy(to_levels(signal.values, signal.scale)).float() / max(signal.scale.levels - 1, 1)
        if self.geometry == "sphere":
            levels = regridded(levels, signal.axes, self.axes)
        if self.channels == COLOUR:
            return levels[..., :COLOUR] if levels.shape[-1] >= COLOUR else levels[..., :1].expand(*levels.shape[:-1], COLOUR)
        return levels.mean(dim=-1, keepdim=True)


KINDS = {
    "image": Kind((16, 16), 3, TrainBaseConfig(latents=384), block=4),
    "gray": Kind((16, 16), 1, TrainBaseConfig(latents=224), block=4),
    "audio": Kind((256,), 1, TrainBaseConfig(latents=256, bandwidth=5.0), block=16),
    "volume": Kind((8, 8, 8), 1, TrainBaseConfig(latents=400, width=400), block=3),
    "globe": Kind((48, 96), 1, TrainBaseConfig(latents=256), geometry="sphere"),
}
