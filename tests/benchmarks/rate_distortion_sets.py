"""What `rate_distortion.py` measures: files that no shipped base network has seen, with the peers that each set has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from codec_peers import Peer, grid_peers, picture_peers, slice_peers, sound_peers
from eof_peer import eof_peers, training, training_months
from PIL import Image

from compresskit.codec.config import TrainBaseRequest
from compresskit.codec.signal import Signal
from compresskit.codec.training import train_base

CIFAR_IMAGES = 500
ERA5_LEVEL = 850  # hPa
ARCHIVE, ARCHIVE_TRAIN = "csm_b003_ts_monthly", 60  # months to learn from
ARCHIVE_LATENTS = 48  # of its base network: half a minute of one core


@dataclass(frozen=True)
class DataSet:
    """Files to code, and how.

    Attributes:
        inputs: from the data folder and an empty one, the files; what is not there as files is written to the empty one.
        peers: that lose something, for the signals of these files.
        tolerances: largest errors to code within, in the unit of the data.
        archive: whether ours gets all files as one archive.
        coin: qualities at which COIN is run.
        base: from the same two folders, the base network's file, in place of the one that ships.
    """

    inputs: Callable[[Path, Path], list[Path]]
    peers: Callable[[Path, Sequence[Signal]], Iterable[Peer]]
    tolerances: tuple[float, ...] = ()
    archive: bool = False
    coin: tuple[int, ...] = ()
    base: Callable[[Path, Path], Path] | None = None


def kodak(data: Path, scratch: Path) -> list[Path]:
    """Those that the shipped base networks have not seen."""
    return [data / "kodak" / f"kodim{number:02d}.png" for number in range(7, 13)]


def cifar(data: Path, scratch: Path) -> list[Path]:
    """The first test images whose pixels are known to be the originals, as PNG files."""
    folder = data / "cifar10"
    with np.load(folder / "labels.npz", allow_pickle=False) as labels:
        chosen = np.flatnonzero(labels["test_lossless"])[:CIFAR_IMAGES]
    strips = [np.array(Image.open(path).convert("RGB")).reshape(-1, 32, 32, 3) for path in sorted(folder.glob("test_*.webp"))[:2]]
    images = np.concatenate(strips)
    paths = [scratch / f"cifar{number:04d}.png" for number in chosen]
    for number, path in zip(chosen, paths, strict=True):
        Image.fromarray(images[number]).save(path)
    return paths


def mri(data: Path, scratch: Path) -> list[Path]:
    """Heads of single subjects."""
    return [data / "mri" / f"{name}.nii.gz" for name in ("M2208_T2w", "T2w_224x224x60", "example4d", "spm_single_subj_T1")]


def speech(data: Path, scratch: Path) -> list[Path]:
    """The two speakers that the shipped base network has not heard."""
    return [path for speaker in (3005, 3080) for path in sorted((data / "speech").glob(f"{speaker}-*.flac"))]


def climate(data: Path, scratch: Path) -> list[Path]:
    """A climate model, a climatology and a reanalysis, of which no field is trained on."""
    with np.load(data / "climate" / "era5_ensemble_t_61x120.npz", allow_pickle=False) as arrays:
        level = int(np.flatnonzero(arrays["level_hPa"] == ERA5_LEVEL)[0])
        fields = {"t": np.ascontiguousarray(arrays["t"][:, :, level]), "lat": arrays["lat"], "lon": arrays["lon"]}
    era5 = scratch / f"era5_ensemble_t{ERA5_LEVEL}.npz"
    np.savez(era5, **fields)
    return [data / "climate" / f"{name}.npz" for name in ("echam_ts_6hourly_2001", "ncep_air_sig995_mon_ltm")] + [era5]


def later(data: Path, scratch: Path) -> list[Path]:
    """The months of the archive that are not trained on."""
    return [_months(data, scratch, slice(ARCHIVE_TRAIN, None))]


def earlier(data: Path, scratch: Path) -> Path:
    """A base network of the other months, as a user would train it."""
    output = scratch / "archive.base.safetensors"
    months = _months(data, scratch, slice(ARCHIVE_TRAIN))
    train_base(TrainBaseRequest((str(months),), "globe", str(output), latents=ARCHIVE_LATENTS, threads=1))
    return output


def _months(data: Path, scratch: Path, chosen: slice) -> Path:
    with np.load(data / "climate" / f"{ARCHIVE}.npz", allow_pickle=False) as arrays:
        fields = {name: arrays[name][chosen] if name in ("temperature", "time") else arrays[name] for name in arrays}
    path = scratch / f"{ARCHIVE}_{fields['time'].size}_months.npz"
    np.savez(path, **fields)
    return path


SETS = {
    "kodak": DataSet(kodak, lambda data, signals: picture_peers(), tolerances=(2, 5), coin=(1, 3, 5)),
    "cifar": DataSet(cifar, lambda data, signals: picture_peers(), archive=True),
    "mri": DataSet(mri, lambda data, signals: [*slice_peers(), *grid_peers()], tolerances=(2, 8)),
    "speech": DataSet(speech, lambda data, signals: sound_peers(), tolerances=(8, 64)),
    "climate": DataSet(climate, lambda data, signals: [*slice_peers(), *grid_peers(), *eof_peers(training(data), signals)], tolerances=(0.1, 0.5)),
    "archive": DataSet(
        later,
        lambda data, signals: [*slice_peers(), *grid_peers(), *eof_peers(training_months(data, ARCHIVE, ARCHIVE_TRAIN), signals)],
        tolerances=(0.1, 0.5),
        base=earlier,
    ),
}
