"""How far decoded samples are from the original ones. Everything is computed in float64.

`reference` and `decoded` are (frames, *spatial, channels) and alike in shape; `mask` is (frames, *spatial), True where there is a sample
to compare, or None for everywhere. Where nothing is compared, nothing differs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.generic]
Mask = NDArray[np.bool_] | None


def rmse(reference: Samples, decoded: Samples, mask: Mask = None) -> float:
    """Root of the mean squared difference, in the samples' unit."""
    error = _difference(reference, decoded, mask)
    return math.sqrt(_mean_square(error))


def max_error(reference: Samples, decoded: Samples, mask: Mask = None) -> float:
    """The largest absolute difference, in the samples' unit."""
    return float(np.abs(_difference(reference, decoded, mask)).max(initial=0.0))


def psnr(reference: Samples, decoded: Samples, peak: float, mask: Mask = None) -> float:
    """Peak signal-to-noise ratio [dB], 20 log10(peak / RMSE); infinite for equal samples."""
    return _decibels(peak * peak, _mean_square(_difference(reference, decoded, mask)))


def snr_db(reference: Samples, decoded: Samples, mask: Mask = None) -> float:
    """Signal-to-noise ratio [dB] of samples that swing around zero; infinite for equal samples, minus infinity for noise on silence."""
    power = _mean_square(_chosen(reference.astype(np.float64), mask))
    return _decibels(power, _mean_square(_difference(reference, decoded, mask)))


def latitude_rmse(reference: Samples, decoded: Samples, latitudes: NDArray[np.float64], mask: Mask = None) -> float:
    """RMSE in which each point counts by its area on the globe, the cosine of its latitude.

    Args:
        latitudes: in degrees, of the first spatial axis.
    """
    error = np.subtract(reference, decoded, dtype=np.float64)
    area = np.cos(np.deg2rad(latitudes)).reshape(1, -1, *[1] * (error.ndim - 2)) * np.ones(error.shape)
    if mask is not None:
        area[~mask] = 0
        error[~mask] = 0  # it may be NaN there
    total = float(area.sum())
    return math.sqrt(float(np.sum(area * np.square(error))) / total) if total > 0 else 0.0


def _difference(reference: Samples, decoded: Samples, mask: Mask) -> NDArray[np.float64]:
    return _chosen(np.subtract(reference, decoded, dtype=np.float64), mask)


def _chosen(values: NDArray[np.float64], mask: Mask) -> NDArray[np.float64]:
    return values if mask is None else values[mask]


def _mean_square(values: NDArray[np.float64]) -> float:
    return float(np.mean(np.square(values))) if values.size else 0.0


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
