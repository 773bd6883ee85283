"""Makes `phantom.nii.gz`, `picture.png`, `tone.wav` and `temperature.npz` beside this file: `python sample_data/make_signals.py`; a second.

Everything comes from the formulas below, nothing from data: the samples are the same wherever the script runs.
"""

from __future__ import annotations

import gzip
import io
import math
import wave
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray
from PIL import Image

from compresskit.writers import write_bytes

Array = NDArray[np.float64]

FOLDER = Path(__file__).parent

VOXELS = (64, 76, 64)
VOXEL_MM = 3.0
SLOPE, INTERCEPT = 0.25, 8.0
ELLIPSOIDS = (  # after Shepp & Logan 1974: brightness added, semi-axes, centre (of the head's 1, 1, 1), turn about z [degrees]
    (900, (0.72, 0.93, 0.86), (0.0, 0.0, 0.0), 0),  # scalp
    (-700, (0.68, 0.89, 0.82), (0.0, 0.0, 0.0), 0),  # skull
    (450, (0.64, 0.85, 0.78), (0.0, -0.01, 0.0), 0),  # grey matter
    (250, (0.52, 0.72, 0.62), (0.0, -0.02, 0.05), 0),  # white matter
    (-620, (0.10, 0.34, 0.22), (0.17, 0.04, 0.05), -18),  # ventricles
    (-620, (0.12, 0.38, 0.24), (-0.17, 0.04, 0.05), 18),
    (-180, (0.16, 0.20, 0.20), (0.0, 0.42, -0.05), 0),
    (220, (0.07, 0.07, 0.10), (0.28, -0.35, 0.12), 0),  # three lesions
    (300, (0.04, 0.06, 0.05), (-0.10, -0.60, -0.08), 35),
    (-260, (0.05, 0.04, 0.06), (-0.33, -0.25, -0.20), 0),
)

HEIGHT, WIDTH = 192, 256

RATE = 16_000
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240))  # formants of a, i, u [Hz]: Peterson & Barney 1952

LATITUDES = np.linspace(90, -90, 46)
LONGITUDES = np.arange(90) * 4.0
HOURS = np.arange(8) * 6


def noise(shape: tuple[int, ...], seed: int) -> Array:
    """Uniform numbers in [-1, 1): SplitMix64 (Steele et al. 2014) of each index, the same with every version of NumPy."""
    state = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) + (np.uint64(seed) << np.uint64(40))
    state *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return ((state >> np.uint64(11)) * 2.0**-52 - 1).reshape(shape)


def smooth_noise(shape: tuple[int, int], cell: int, seed: int) -> Array:
    """Noise at the corners of cells of `cell` x `cell` samples, with a smooth passage between them."""
    corners = noise((shape[0] // cell + 2, shape[1] // cell + 2), seed)
    (top, y), (left, x) = (np.divmod(np.arange(size), cell) for size in shape)
    y, x = (smoothstep(part / cell) for part in (y[:, np.newaxis], x))
    upper = corners[np.ix_(top, left)] * (1 - x) + corners[np.ix_(top, left + 1)] * x
    lower = corners[np.ix_(top + 1, left)] * (1 - x) + corners[np.ix_(top + 1, left + 1)] * x
    return upper * (1 - y) + lower * y


def smoothstep(x: Array) -> Array:
    """0 up to 0, 1 from 1, and smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def phantom() -> bytes:
    """A head of ellipsoids with soft edges and a grain in the tissue, (64, 76, 64) int16 with slope, intercept and an affine."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in VOXELS), indexing="ij")
    head = np.zeros(VOXELS)
    for brightness, axes, centre, turn in ELLIPSOIDS:
        cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
        radius = np.sqrt(((dx * cosine + dy * sine) / axes[0]) ** 2 + ((dy * cosine - dx * sine) / axes[1]) ** 2 + (dz / axes[2]) ** 2)
        softness = 0.03 / min(axes)  # an edge is about two voxels wide, whatever the ellipsoid's size
        head += brightness * smoothstep((1 - radius) / softness + 0.5)
    grain = 8 * noise(VOXELS, 1) + 14 * np.sin(19 * x + 3 * np.sin(11 * y)) * np.sin(17 * y + 23 * z)
    stored = np.rint(np.where(head > 20, head + grain, 0)).clip(0, 4095).astype("<i2")
    # The header is written by hand, because nibabel resets slope and intercept when it saves an image.
    header = Nifti1Header(endianness="<")
    header.set_data_shape(VOXELS)
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("mm")
    header.set_slope_inter(SLOPE, INTERCEPT)
    affine = np.diag([VOXEL_MM] * 3 + [1.0])
    affine[:3, 3] = [-VOXEL_MM * (size - 1) / 2 for size in VOXELS]
    header.set_sform(affine, code="scanner")
    header["pixdim"][1:4] = VOXEL_MM
    header["descrip"] = b"synthetic head of ellipsoids"
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return gzip.compress(header.binaryblock + bytes(4) + stored.tobytes(order="F"), mtime=0)


def picture() -> bytes:
    """A landscape of 256 x 192 RGB pixels: sky with clouds, two ranges of hills, a field in furrows and a house."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    clouds = sum(smooth_noise((HEIGHT, WIDTH), 64 >> octave, 10 + octave) / 2**octave for octave in range(5))
    sky = _colour(90, 140, 205) + y[..., None] / 110 * _colour(120, 80, 20) + 70 * smoothstep(clouds - 0.1)[..., None]
    sun = np.exp(-((np.hypot(x - 196, y - 38) / 22) ** 2))
    scene = sky + sun[..., None] * _colour(150, 110, 30)
    for base, height, period, seed, colour in ((96, 22, 41.0, 20, (96, 116, 138)), (118, 16, 27.0, 21, (62, 92, 70))):
        ridge = base - height * (np.sin(x / period) * 0.6 + np.sin(x / period * 2.3 + seed) * 0.3)
        rough = 12 * smooth_noise((HEIGHT, WIDTH), 4, seed) + 3 * noise((HEIGHT, WIDTH), seed + 2)
        shaded = _colour(*colour) * (1 + 0.004 * (y - ridge))[..., None] + rough[..., None]
        scene = np.where((y > ridge)[..., None], shaded, scene)
    depth = np.maximum(y - 132, 1)
    furrows = 26 * np.sin((x - 90) * 28 / (depth + 14)) * smoothstep(depth / 30) + 8 * noise((HEIGHT, WIDTH), 30) * depth / 60
    field = _colour(150, 128, 70) + (furrows - depth * 0.3)[..., None] * _colour(1, 0.9, 0.6)
    scene = np.where((y > 132)[..., None], field, scene)
    pixels = np.rint(_with_house(scene, x, y)).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _with_house(scene: Array, x: Array, y: Array) -> Array:
    bricks = 10 * ((y % 5 < 1) | ((x + 4 * (y // 5 % 2)) % 9 < 1))
    parts = (
        ((abs(x - 62) < 26) & (y > 104) & (y < 146), _colour(186, 120, 92) - bricks[..., None]),
        ((abs(x - 62) < (y - 80) * 1.3) & (y > 82) & (y <= 104), _colour(120, 52, 44) + 6 * np.sin(y * 1.6)[..., None]),
        ((abs(abs(x - 62) - 14) < 5) & (abs(y - 118) < 6), _colour(238, 226, 150) - (y[..., None] - 112) * 4),
        ((abs(x - 62) < 5) & (y > 124) & (y < 146), _colour(70, 48, 36) * np.ones_like(scene)),
    )
    for inside, colour in parts:
        scene = np.where(inside[..., None], colour, scene)
    return scene


def _colour(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float64)


def tone() -> bytes:
    """A second of something like speech, 16 kHz mono 16 bit: harmonics of a gliding voice under formants that move from a to i to u."""
    t = np.arange(RATE) / RATE
    pitch = 125 + 30 * np.sin(2 * np.pi * 0.8 * t) + 3 * np.sin(2 * np.pi * 5.5 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = [np.interp(t, (0.1, 0.5, 0.9), column) for column in zip(*VOWELS, strict=True)]
    voice = np.zeros(RATE)
    for harmonic in range(1, 50):
        frequency = harmonic * pitch
        gain = sum(weight / (1 + ((frequency - formant) / 90) ** 2) for weight, formant in zip((1.0, 0.5, 0.25), formants, strict=True))
        voice += (gain + 0.02) / harmonic**0.5 * np.where(frequency < 0.45 * RATE, np.sin(harmonic * phase), 0)
    syllables = smoothstep(t / 0.05) * smoothstep((1 - t) / 0.1) * (0.25 + 0.75 * np.sin(np.pi * 3 * t) ** 2)
    breath = 0.06 * np.diff(noise((RATE + 1,), 40)) * np.exp(-(((t - 0.34) / 0.03) ** 2))
    samples = np.rint(9000 * (voice * syllables + breath) + 4 * noise((RATE,), 41)).clip(-32768, 32767).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def temperature() -> bytes:
    """An archive of t2m (8, 46, 90) float32 [K], time [hours], lat and lon [degrees]: warm tropics, continents, waves that travel east."""
    latitude, longitude = np.deg2rad(LATITUDES)[:, None], np.deg2rad(LONGITUDES)
    relief = np.sin(2 * longitude + 0.7) * np.cos(latitude) + 0.6 * np.cos(3 * longitude - 2 * latitude) * np.cos(latitude) ** 2 + 0.5 * latitude
    land = smoothstep(relief / 0.15 - 1.5)
    mean = 300 - 48 * np.sin(latitude - 0.1) ** 2 - 14 * np.sin(latitude) ** 8
    mountains = land * (6 * np.abs(np.sin(7 * longitude + 3 * latitude)) + smooth_noise((len(LATITUDES), len(LONGITUDES)), 3, 50))
    fields = []
    for hours in HOURS:
        sun = np.cos(longitude + 2 * np.pi * (hours - 12) / 24) * np.cos(latitude)
        waves = sum(
            height * np.cos(number * longitude - 2 * np.pi * hours / period + 4 * latitude) * np.sin(2 * latitude) ** 2
            for height, number, period in ((5.0, 5, 110.0), (2.5, 8, 70.0), (1.2, 13, 45.0))
        )
        fields.append(mean + land * (5 * sun - 4 * np.sin(latitude) ** 2) - mountains + waves)
    stream = io.BytesIO()
    np.savez_compressed(stream, t2m=np.round(fields, 2).astype(np.float32), time=HOURS, lat=LATITUDES, lon=LONGITUDES)
    return stream.getvalue()


SIGNALS: Mapping[str, Callable[[], bytes]] = {
    "phantom.nii.gz": phantom,
    "picture.png": picture,
    "tone.wav": tone,
    "temperature.npz": temperature,
}


def main() -> None:
    for name, make in SIGNALS.items():
        data = make()
        write_bytes(FOLDER / name, data, force=True)
        print(f"{name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
