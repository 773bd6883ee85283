"""A picture of what coding did to a signal: original, reconstruction and error side by side.

    image   the middle frame                            1 row
    volume  the central slice across each axis          3 rows
    audio   waveforms, and spectrograms                 2 rows
    climate the middle frame as a map, north at the top 1 row

Arrays are drawn by their dimensions: as a curve, a picture or slices. Needs Matplotlib (the extra `plot`), of which only figure objects are used.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compresskit.codec import metrics
from compresskit.codec.signal import Signal
from compresskit.errors import UsageError
from compresskit.writers import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")

_Array = NDArray[np.float64]

_WIDTH = 12.0  # inches, of a figure
_COLUMNS = 2000  # that a long waveform is summed up in
_WINDOW = 512  # samples of a spectrum
_SPECTRA = 800  # at most, in a spectrogram
_DYNAMICS = 80.0  # dB below the loudest that a spectrogram shows


@dataclass(frozen=True)
class _Plane:
    """Two pictures (rows, columns, channels) of the same place in a signal, NaN where nothing was measured, and where their rows and columns are."""

    original: _Array
    decoded: _Array
    axes: tuple[_Array, ...] = ()
    label: str = ""


def check_preview(path: Path) -> None:
    """Find out, before any work is done, whether a preview can be drawn as `path`.

    Raises:
        UsageError: its suffix is none of `FORMATS`, or Matplotlib is missing.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"cannot draw {path}: the suffix decides the format, one of {', '.join(FORMATS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--preview needs Matplotlib: pip install 'compresskit[plot]'")


def draw(original: Signal, decoded: Signal, path: Path, *, force: bool = False) -> None:
    """Draw `original`, `decoded` and what is between them into a file of the kind that the suffix of `path` names.

    Args:
        original, decoded: alike in shape.
        force: whether an existing file may be replaced.

    Raises:
        UsageError: as in `check_preview`, or the file exists and `force` is off.
        OutputError: the file cannot be written.
    """
    check_preview(path)
    write_bytes(path, render(original, decoded, path.suffix), force=force)


def render(original: Signal, decoded: Signal, suffix: str) -> bytes:
    """The drawing as a file of the kind that `suffix` names: ".png"."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, 1), layout="constrained")
    draw_rows = _draw_curves if original.values.ndim == 3 else _draw_planes
    top = draw_rows(figure, original, decoded)
    present = None if original.missing is None else ~original.missing
    psnr = metrics.psnr(original.values, decoded.values, original.peak, present)
    distortion = f"{psnr:.2f} dB" if math.isfinite(psnr) else "exact"
    for axes, title in zip(top, ("original", f"reconstruction, {distortion}", "error"), strict=True):
        axes.set_title(title, fontsize=10)
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix.lower().lstrip("."), dpi=100)
    return stream.getvalue()


def _draw_planes(figure: Figure, original: Signal, decoded: Signal) -> list[Axes]:
    """A row of each plane; the axes of the first one."""
    planes = list(_planes(original, decoded))
    shapes = [plane.original.shape for plane in planes]
    figure.set_figheight(sum(min(max(_WIDTH / 3 * rows / columns, 1.0), _WIDTH) for rows, columns, _ in shapes) + 0.6)
    grid = figure.subplots(len(planes), 3, squeeze=False, height_ratios=[rows / columns for rows, columns, _ in shapes])
    colours = "RdYlBu_r" if original.axes else "gray"
    for row, plane in zip(grid, planes, strict=True):
        low, high = _extremes(plane.original)
        for axes, values in zip(row, (plane.original, plane.decoded), strict=False):
            shown = axes.imshow(_pixels(values, original), vmin=low, vmax=high, cmap=colours)
        if original.axes:
            figure.colorbar(shown, ax=row[1], shrink=0.8)
        difference = np.abs(plane.decoded - plane.original).max(axis=2)
        figure.colorbar(row[2].imshow(difference, vmin=0, cmap="magma"), ax=row[2], shrink=0.8)
        for axes in row:
            _mark(axes, plane.axes)
        row[0].set_ylabel(plane.label, fontsize=8)
    return list(grid[0])


def _planes(original: Signal, decoded: Signal) -> Iterator[_Plane]:
    """What is drawn of signals with two or three spatial axes: of the middle frame, all or the central slices."""
    frame = len(original.values) // 2
    label = f"frame {frame + 1} of {len(original.values)}" if len(original.values) > 1 else ""
    both = [_present(signal.values[frame], original.missing, frame) for signal in (original, decoded)]
    if original.axes:
        # A slice of step -1 turns the map where it begins in the south.
        order = slice(None, None, 1 if original.axes[0][0] >= original.axes[0][-1] else -1)
        yield _Plane(both[0][order], both[1][order], (original.axes[0][order], original.axes[1]), label)
    elif original.values.ndim == 4:
        yield _Plane(both[0], both[1], (), label)
    else:
        for axis, name in enumerate("xyz"):
            middle = both[0].shape[axis] // 2
            # The first axis that is left runs to the right and the second up, as anatomists look at scans.
            views = [values.take(middle, axis).swapaxes(0, 1)[::-1] for values in both]
            yield _Plane(views[0], views[1], (), ", ".join(filter(None, (f"{name} = {middle}", label))))


def _present(values: NDArray[np.generic], missing: NDArray[np.bool_] | None, frame: int) -> _Array:
    samples = values.astype(np.float64)
    if missing is not None:
        samples[missing[frame]] = np.nan
    return samples


def _pixels(values: _Array, signal: Signal) -> _Array:
    """What `imshow` takes: three or four channels within 0 to 1, or the first one in the data's unit."""
    if values.shape[2] < 3:
        return values[..., 0]
    scale = signal.scale
    return np.clip((values[..., :4] - scale.low) / (scale.step * max(scale.levels - 1, 1)), 0, 1)


def _extremes(values: _Array) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _mark(axes: Axes, degrees: tuple[_Array, ...]) -> None:
    """Latitudes and longitudes at a few rows and columns; no marks on what is no map."""
    if not degrees:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    for values, set_ticks in zip(degrees, (axes.set_yticks, axes.set_xticks), strict=True):
        places = np.unique(np.linspace(0, len(values) - 1, 5).round().astype(int))
        set_ticks(places, [f"{values[place]:.4g}°" for place in places], fontsize=7)


def _draw_curves(figure: Figure, original: Signal, decoded: Signal) -> list[Axes]:
    """Waveforms, and under those of sound spectrograms; the axes of the waveforms."""
    rate = _rate(original)
    frame = len(original.values) // 2
    both = [_present(signal.values[frame], original.missing, frame) for signal in (original, decoded)]
    curves = [*both, both[1] - both[0]]
    figure.set_figheight(2.8 if rate is None else 5.2)
    grid = figure.subplots(1 if rate is None else 2, 3, squeeze=False)
    seconds = 1 / (rate or 1)
    for axes, curve in zip(grid[0], curves, strict=True):
        _draw_wave(axes, curve, seconds)
        axes.set_xlim(0, max(len(curve) - 1, 1) * seconds)
        axes.tick_params(labelsize=7)
    grid[0][1].sharey(grid[0][0])
    if rate is not None:
        _draw_spectrograms(figure, grid[1], curves, rate)
    return list(grid[0])


def _rate(signal: Signal) -> int | None:
    if signal.modality != "audio":
        return None
    from compresskit.codec.modalities.audio import AudioMetadata

    return AudioMetadata.unpack(signal.metadata).rate


def _draw_wave(axes: Axes, curve: _Array, seconds: float) -> None:
    """Every channel of `curve` (samples, channels): as a line, or where it is long as the extremes of its pieces."""
    if len(curve) <= 2 * _COLUMNS:
        axes.plot(np.arange(len(curve)) * seconds, curve, linewidth=0.6, alpha=0.8)
        return
    starts = np.linspace(0, len(curve), _COLUMNS, endpoint=False).astype(int)
    for channel in curve.T:
        axes.fill_between(starts * seconds, np.minimum.reduceat(channel, starts), np.maximum.reduceat(channel, starts), linewidth=0.3, alpha=0.8)


def _draw_spectrograms(figure: Figure, row: NDArray[Any], curves: list[_Array], rate: int) -> None:
    """Spectrograms of the mean of the channels, all against the loudest of the original."""
    levels = [_spectrogram(curve.mean(axis=1)) for curve in curves]
    loudest = float(levels[0].max())
    extent = (0.0, len(curves[0]) / rate, 0.0, rate / 2000)
    for axes, level in zip(row, levels, strict=True):
        shown = axes.imshow(level.T, extent=extent, origin="lower", aspect="auto", vmin=loudest - _DYNAMICS, vmax=loudest, cmap="magma")
        axes.set_xlabel("s", fontsize=7)
        axes.tick_params(labelsize=7)
    row[0].set_ylabel("kHz", fontsize=7)
    figure.colorbar(shown, ax=list(row), label="dB")


def _spectrogram(samples: _Array) -> _Array:
    """Power [dB] of windows of `samples`, (windows, frequencies); silence is at the power of a hundredth of a step."""
    padded = np.pad(samples, (0, max(_WINDOW - len(samples), 0)))
    hop = max(_WINDOW // 4, len(padded) // _SPECTRA)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::hop]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(_WINDOW))))
    return 10 * np.log10(power + 1e-4)
