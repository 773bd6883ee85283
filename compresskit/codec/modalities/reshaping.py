"""Parts and refinements of signals, where they are the same for every kind of data: samples, and what stands where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.signal import Signal
from compresskit.errors import InputError


def crop(signal: Signal, parts: Sequence[NDArray[np.int64]], metadata: bytes) -> Signal:
    """The samples at the positions `parts` of frames and spatial axes, with other metadata; `axes` are left as they were."""
    cells = np.ix_(*parts)
    missing = None if signal.missing is None else signal.missing[cells]
    return replace(signal, values=signal.values[cells], metadata=metadata, missing=missing if missing is not None and missing.any() else None)


def cropped_holes(holes: bytes, signal: Signal, parts: Sequence[NDArray[np.int64]]) -> bytes:
    """Of `Samples.holes`, those at the positions `parts`."""
    return _moved(holes, signal.missing, signal, lambda samples: samples[np.ix_(*parts)])


def refined_holes(holes: bytes, signal: Signal, scale: int) -> bytes:
    """`Samples.holes` on a grid `scale` times finer, which is that of `signal`."""
    fine = signal.missing
    if fine is None:
        return holes
    coarse = fine[(slice(None), *[slice(None, None, scale)] * (fine.ndim - 1))]

    def repeated(samples: NDArray[np.generic]) -> NDArray[np.generic]:
        for axis in range(1, samples.ndim):
            samples = np.repeat(samples, scale, axis=axis)
        return samples

    return _moved(holes, coarse, signal, repeated)


def _moved(holes: bytes, missing: NDArray[np.bool_] | None, signal: Signal, move: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> bytes:
    """What `holes` in the cells `missing` become when `move` moves these cells."""
    size = signal.values.dtype.itemsize
    if missing is None or len(holes) == size:
        return holes
    stood = np.frombuffer(holes, f"V{size}") if len(holes) % size == 0 else ()
    if len(stood) != np.count_nonzero(missing):
        raise InputError("damaged metadata: missing samples and their values do not fit together")
    placed = np.zeros(missing.shape, f"V{size}")
    placed[missing] = stood
    return move(placed)[move(missing)].tobytes()
