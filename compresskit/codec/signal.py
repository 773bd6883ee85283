"""Signal: what every data file becomes on the way in, and what every bitstream becomes on the way out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scale:
    """Integer levels for real samples: level `n` in [0, `levels`) stands for the sample `low + n * step`.

    For integer samples whose range fits, `step` is 1 and levels are the samples themselves, moved by `low`.

    Attributes:
        low: the sample of level 0, in the file's own unit.
        step: between neighbouring levels; positive.
        levels: how many there are, 1 (a constant signal) to 65536.
    """

    low: float
    step: float
    levels: int


@dataclass(frozen=True)
class Signal:
    """Samples on a grid, with what it takes to write the file again.

    Attributes:
        values: (frames, *spatial, channels), in the file's own dtype and the machine's byte order; no NaN where `missing` is None.
            A picture has one frame, a 4-D scan or a climate series one a time step.
        modality: the registered name of the reader: "image", "audio", "volume", "climate", "array".
        format: of the file, as the modality names it: "png", "wav", "nii.gz".
        scale: the levels that a network reproduces. Pictures and sound have the range of their type; other data their own.
        peak: the range that PSNR refers to, in the unit of `values`.
        metadata: what the modality needs beside the samples to write the file again: header bytes, attributes, axes.
        missing: (frames, *spatial) bool, True where there is no sample (`values` holds a neighbour's there), or None.
        axes: latitudes and longitudes in degrees where the two spatial axes lie on the globe, else ().
        name: the input's file name, without folder.
    """

    values: NDArray[np.generic]
    modality: str
    format: str
    scale: Scale
    peak: float
    metadata: bytes = b""
    missing: NDArray[np.bool_] | None = None
    axes: tuple[NDArray[np.float64], ...] = ()
    name: str = ""
