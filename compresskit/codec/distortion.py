"""How far decoded samples are from a signal, in the figures that suit its kind."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from compresskit.codec import metrics
from compresskit.codec.reports import Distortion
from compresskit.codec.signal import Signal


def distortion(signal: Signal, decoded: NDArray[np.generic]) -> Distortion:
    """Compare `decoded` (frames, *spatial, channels) with the samples of `signal` that are not missing."""
    mask = None if signal.missing is None else np.broadcast_to(~signal.missing[..., None], signal.values.shape)
    values = signal.values
    snr = metrics.snr_db(values, decoded, mask) if signal.modality == "audio" else math.inf
    psnr = metrics.psnr(values, decoded, signal.peak, mask)
    weighted = metrics.latitude_rmse(values, decoded, signal.axes[0], mask) if signal.axes else None
    return Distortion(
        psnr=psnr if math.isfinite(psnr) else None,
        peak=signal.peak,
        rmse=metrics.rmse(values, decoded, mask),
        max_error=metrics.max_error(values, decoded, mask),
        snr=snr if math.isfinite(snr) else None,
        weighted_rmse=weighted,
    )
