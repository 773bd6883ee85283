"""Train the base networks that ship: `python tests/benchmarks/train_bases.py image gray audio volume globe --data DATA --cifar CIFAR10.npz`.

Training data, all of licences that allow it: CIFAR-10's training images and Kodak 1 to 6 (image, gray), five of the seven speakers (audio),
the CIT168, ICBM 2009 and MNI152 templates (volume), and the CSM, PCM, MPI and NCEP June fields (globe). Nothing that a benchmark tests is among them.
A run that was stopped goes on from its checkpoint. Curves are kept in results/bases.json, of the base networks that ship.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import soundfile
import torch
from common import RESULTS, heading, write
from PIL import Image
from scipy.io import netcdf_file
from torch import Tensor
from torch.nn import functional as F

from compresskit.codec.base import save_base
from compresskit.codec.calibrate import calibrate
from compresskit.codec.kinds import KINDS
from compresskit.codec.metatrain import Draw, train
from compresskit.codec.start import regridded
from compresskit.codec.training import crops
from compresskit.runtime import set_threads

KODAK_TRAIN = range(1, 7)
SPEAKERS_TRAIN = ("1688", "1998", "2033", "2414", "2609")
SCANS_TRAIN = ("CIT168_T1w_brain.nii.gz", "ICBM2009asym_T1_brain.nii.gz", "MNI152_T1_2mm.nii.gz")
GLOBE = KINDS["globe"]


def mirrored(draw: Draw, edges: tuple[int, ...]) -> Draw:
    """Half of the patches that `draw` gives, from right to left."""

    def drawn(count: int, generator: torch.Generator) -> Tensor:
        patches = draw(count, generator)
        flipped = patches.unflatten(1, edges).flip(2).flatten(1, 2)
        return torch.where(torch.rand(count, 1, 1, generator=generator) < 0.5, flipped, patches)

    return drawn


def pictures(options: argparse.Namespace, edges: tuple[int, ...]) -> Draw:
    """CIFAR-10 images for one half, where patches are no larger; for the other Kodak at full, half and a quarter of its resolution, and doubled."""
    files = [options.data / "kodak" / f"kodim{number:02d}.png" for number in KODAK_TRAIN]
    scales: list[Tensor] = []
    for scale in (2.0, 1.0, 0.5, 0.25):
        for path in files:
            with Image.open(path) as image:
                size = (round(image.width * scale), round(image.height * scale))
                scales.append(torch.from_numpy(np.array(image.resize(size, Image.Resampling.LANCZOS)))[None])
    kodak = mirrored(crops(scales, edges, [weight for weight in (0.15, 0.4, 0.3, 0.15) for _ in files]), edges)
    images = torch.from_numpy(np.load(options.cifar)["x_train"])
    cifar = crops([images], edges) if max(edges) <= images.shape[1] else kodak

    def draw(count: int, generator: torch.Generator) -> Tensor:
        return torch.cat([cifar(count // 2, generator), kodak(count - count // 2, generator)]).float() / 255

    return draw


def gray(options: argparse.Namespace, edges: tuple[int, ...]) -> Draw:
    """The luma of `pictures`."""
    colour = pictures(options, edges)
    luma = torch.tensor([0.299, 0.587, 0.114])

    def draw(count: int, generator: torch.Generator) -> Tensor:
        return (colour(count, generator) @ luma).unsqueeze(-1)

    return draw


def speech(options: argparse.Namespace, edges: tuple[int, ...]) -> Draw:
    """Speech at its own rate, and at half and twice of it, louder and softer."""
    sources = []
    for speaker in SPEAKERS_TRAIN:
        for path in sorted((options.data / "speech").glob(f"{speaker}-*.flac")):
            samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
            for length in (len(samples) // 2, len(samples), len(samples) * 2):
                sources.append(F.interpolate(samples[None, None], length, mode="linear", antialias=False)[0, ..., None])
    cut = crops(sources, edges, [1.0] * len(sources))

    def draw(count: int, generator: torch.Generator) -> Tensor:
        loudness = torch.exp(torch.randn(count, 1, 1, generator=generator) * 0.5)
        return (cut(count, generator) * loudness / 2 + 0.5).clamp(0, 1)

    return draw


def scans(options: argparse.Namespace, edges: tuple[int, ...]) -> Draw:
    """Templates of brains at their own resolution and at half of it; of three patches drawn one stays, background only for want of others."""
    sources = []
    for name in SCANS_TRAIN:
        volume = torch.from_numpy(np.asarray(nibabel.load(options.data / "mri" / name).dataobj, dtype=np.float32))
        volume = (volume - volume.min()) / (volume.max() - volume.min())
        halved = F.avg_pool3d(volume[None, None], 2)[0, 0]
        sources += [array[None, ..., None] for array in (volume, halved)]
    cut = crops(sources, edges, [1.0, 0.5] * len(SCANS_TRAIN))

    def draw(count: int, generator: torch.Generator) -> Tensor:
        patches = cut(3 * count, generator)
        busy = patches.std(dim=(1, 2)) > 0.02
        order = torch.argsort(busy.float() + 0.9 * torch.rand(len(busy), generator=generator), descending=True, stable=True)
        return patches[order[:count]]

    return draw


def fields(options: argparse.Namespace, _: tuple[int, ...]) -> Draw:
    """Temperatures of the globe, each source between its own extremes, and mixtures of two fields of one source."""
    climate = options.data / "climate"
    sources = [
        _regridded(np.load(climate / name), key)
        for name, key in (
            ("csm_b003_ts_monthly.npz", "temperature"),
            ("pcm_b06.69_trefht_annual_1890_1999.npz", "temperature"),
            ("ncep_june_climo_T_levels.npz", "temperature"),
        )
    ]
    with netcdf_file(climate / "mpi_esm_lr_tas_2005.nc", mmap=False) as file:
        sources.append(_regridded({name: np.array(file.variables[name].data) for name in ("tas", "lat", "lon")}, "tas"))

    def draw(count: int, generator: torch.Generator) -> Tensor:
        drawn = []
        for source in torch.randint(len(sources), (count,), generator=generator).tolist():
            first, second = torch.randint(len(sources[source]), (2,), generator=generator).tolist()
            share = torch.rand((), generator=generator)
            drawn.append(share * sources[source][first] + (1 - share) * sources[source][second])
        fields = torch.stack(drawn).reshape(count, *GLOBE.edges)
        gain, level = (torch.randn(2, count, 1, 1, generator=generator) * torch.tensor([0.15, 0.05]).reshape(2, 1, 1, 1)).unbind()
        weather = torch.stack([_weather(generator) for _ in range(count)])
        return (0.5 + (fields - 0.5) * torch.exp(gain) + level + weather).clamp(0, 1).reshape(count, -1, 1)

    return draw


def _weather(generator: torch.Generator) -> Tensor:
    """A random field of one of several scales and strengths, for what four climates do not show."""
    scale = int(torch.randint(4, (), generator=generator))
    coarse = torch.randn(1, 1, 4 << scale, 8 << scale, generator=generator)
    strength = 0.08 * torch.rand((), generator=generator) / (1 + scale)
    return strength * F.interpolate(coarse, GLOBE.edges, mode="bicubic", align_corners=False)[0, 0]


def _regridded(arrays: dict[str, np.ndarray], key: str) -> Tensor:
    """(fields, N, 1) in 0..1 on the training grid."""
    latitudes, longitudes, values = (np.asarray(arrays[name], dtype=np.float64) for name in ("lat", "lon", key))
    whole = torch.from_numpy((values - values.min()) / np.ptp(values)).float().unsqueeze(-1)
    return regridded(whole, (latitudes, longitudes), GLOBE.axes).flatten(1, 2)


DRAWS = {"image": pictures, "gray": gray, "audio": speech, "volume": scans, "globe": fields}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bases", nargs="+", choices=DRAWS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("."), help="folder for checkpoints")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[2] / "compresskit/codec/bases")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="in place of each base's own number")
    options = parser.parse_args()
    threads = set_threads(options.threads)
    results = RESULTS / "bases.json"
    for name in options.bases:
        kind = KINDS[name]
        x = kind.coordinates()
        config = replace(kind.config, checkpoint=options.work / f"{name}.checkpoint", resume=True, steps=options.steps or kind.config.steps)
        began, draw = time.process_time(), DRAWS[name](options, kind.edges)
        wide = DRAWS[name](options, tuple(kind.block * edge for edge in kind.edges))
        trained = train(draw, x, config, _Log(name), edges=kind.grid)
        base = calibrate(
            trained, draw, x, config, name=name, edges=kind.edges, geometry=kind.geometry, blocks=(wide, (kind.block,) * len(kind.edges))
        )
        data = save_base(base)
        (options.output / f"{name}.base.safetensors").write_bytes(data)
        rows = json.loads(results.read_text())["bases"] if results.exists() else {}
        settings = {key: value for key, value in vars(config).items() if key not in ("checkpoint", "checkpoint_minutes", "resume")}
        rows[name] = {"settings": settings, "cpu_seconds": round(time.process_time() - began), "bytes": len(data), "psnr_by_step": trained.curve}
        write(results, {**heading(threads), "bases": rows})


class _Log:
    """Progress as lines, a hundred in all."""

    def __init__(self, name: str) -> None:
        self.name, self.total, self.done = name, 1, 0

    def stage(self, name: str, total: int | None = None) -> None:
        self.total, self.done = total or 1, 0

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.done += steps
        if self.done % max(self.total // 100, 1) == 0:
            print(f"{self.name}: step {self.done} of {self.total}, {figures}", file=sys.stderr, flush=True)

    def note(self, message: str) -> None:
        print(message, file=sys.stderr)


if __name__ == "__main__":
    main()
