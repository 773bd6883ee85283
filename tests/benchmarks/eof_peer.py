"""Empirical orthogonal functions (PCA of training fields) as a codec of temperature maps: what any trained codec of such maps has to beat.

The fields that our base network learned from are brought to the grid of the test data; their mean and principal components are
the codec, and cost nothing. The coefficients of a map are rounded to multiples of a step, and counted at the ideal length under a Laplace
distribution of the mean magnitude that the component has in training. There is no stream: the figures are what an entropy coder without
overhead would reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from codec_peers import Array, Peer
from scipy.io import netcdf_file

from compresskit.codec.signal import Signal

COMPONENTS = (2, 4, 8, 16, 32, 64, 128)
NOISE = (0.25, 1.0)  # RMSE [K] that the rounding of the coefficients may add
LONGEST = 40.0  # bits of one coefficient, however improbable


@dataclass(frozen=True)
class Training:
    """Fields (count, latitudes, longitudes) of one source [K] and its axes [degrees]."""

    fields: Array
    latitudes: Array
    longitudes: Array


def training(data: Path) -> list[Training]:
    """The sources that the base network for the globe learned from."""
    climate = data / "climate"
    sources = []
    for name in ("csm_b003_ts_monthly.npz", "pcm_b06.69_trefht_annual_1890_1999.npz", "ncep_june_climo_T_levels.npz"):
        with np.load(climate / name, allow_pickle=False) as arrays:
            sources.append(Training(arrays["temperature"], arrays["lat"], arrays["lon"]))
    with netcdf_file(climate / "mpi_esm_lr_tas_2005.nc", mmap=False) as file:
        sources.append(Training(*(np.array(file.variables[name].data) for name in ("tas", "lat", "lon"))))
    return sources


def training_months(data: Path, name: str, count: int) -> list[Training]:
    """The first `count` fields of one archive."""
    with np.load(data / "climate" / f"{name}.npz", allow_pickle=False) as arrays:
        return [Training(arrays["temperature"][:count], arrays["lat"], arrays["lon"])]


def eof_peers(sources: Sequence[Training], signals: Sequence[Signal]) -> Iterator[Peer]:
    """One peer for each number of components that training has, and step; the components of every test grid are found once."""
    bases = {_grid_key(signal): _Components.of(sources, signal) for signal in signals}
    fields = sum(len(source.fields) for source in sources)
    for count in (count for count in COMPONENTS if count < fields):
        for noise in NOISE:
            yield _peer(bases, count, noise)


def _peer(bases: dict[tuple[bytes, ...], _Components], count: int, noise: float) -> Peer:
    def encode(signal: Signal) -> list[bytes]:
        return [bases[_grid_key(signal)].symbols(signal, count, noise).astype("<i4").tobytes()]

    def decode(files: list[bytes], signal: Signal) -> Array:
        symbols = np.frombuffer(files[0], "<i4").reshape(len(signal.values), -1)
        return bases[_grid_key(signal)].samples(symbols, noise).reshape(signal.values.shape).astype(signal.values.dtype)

    def size(files: list[bytes], signal: Signal) -> int:
        symbols = np.frombuffer(files[0], "<i4").reshape(len(signal.values), -1)
        return -(-int(np.ceil(bases[_grid_key(signal)].bits(symbols, noise))) // 8)

    return Peer("EOF", f"{count} components, rounding {noise:g} K", encode, decode, size=size)


def _grid_key(signal: Signal) -> tuple[bytes, ...]:
    return tuple(axis.tobytes() for axis in signal.axes)


@dataclass(frozen=True)
class _Components:
    """Mean (points,), orthonormal components (count, points) and the mean magnitude of each one's coefficients in training (count,)."""

    mean: Array
    components: Array
    magnitudes: Array

    @classmethod
    def of(cls, sources: Sequence[Training], signal: Signal) -> _Components:
        fields = np.concatenate([_regridded(source, *signal.axes) for source in sources]).reshape(-1, signal.values[0].size)
        mean = fields.mean(axis=0)
        weights, scales, components = np.linalg.svd(fields - mean, full_matrices=False)
        return cls(mean, components, np.abs(weights * scales).mean(axis=0))

    def symbols(self, signal: Signal, count: int, noise: float) -> Array:
        fields = signal.values.reshape(len(signal.values), -1) - self.mean
        return np.rint(fields @ self.components[:count].T / self._step(count, noise))

    def samples(self, symbols: Array, noise: float) -> Array:
        count = symbols.shape[1]
        return symbols * self._step(count, noise) @ self.components[:count] + self.mean

    def bits(self, symbols: Array, noise: float) -> float:
        """Ideal code length of `symbols` (maps, components)."""
        count = symbols.shape[1]
        rate = self._step(count, noise) / np.maximum(self.magnitudes[:count], 1e-9)
        # Of a Laplace distribution of scale 1, the bin of symbol s != 0 is exp(-|s| rate) sinh(rate / 2).
        inner = np.log2(-np.expm1(-rate / 2))
        outer = (-np.abs(symbols) * rate + rate / 2 + np.log(-np.expm1(-rate) / 2)) / np.log(2)
        return float(np.minimum(-np.where(symbols == 0, inner, outer), LONGEST).sum())

    def _step(self, count: int, noise: float) -> float:
        """Rounding to multiples of it leaves an RMSE of `noise` a point: count * step^2 / 12 = points * noise^2."""
        return noise * float(np.sqrt(12 * len(self.mean) / count))


def _regridded(source: Training, latitudes: Array, longitudes: Array) -> Array:
    """Fields on another grid, by linear interpolation; longitudes wrap."""
    order = np.argsort(source.latitudes)
    north = np.stack([np.interp(latitudes, source.latitudes[order], unit[order]) for unit in np.eye(len(order))], axis=1)
    east = np.stack([np.interp(longitudes, source.longitudes, unit, period=360) for unit in np.eye(len(source.longitudes))], axis=1)
    return north @ source.fields.astype(np.float64) @ east.T
