"""How fast `encode` and `decode` are: `python tests/benchmarks/codec_speed.py --data ../shared/data`. Writes results/codec_speed.json.

The reference is what the thesis describes, straightforwardly: gradient steps on latents from zero by autograd, in float32, on the same base
network and the same patches; ours solves for them. Runs alternate with ours; rates of descent for it are tried, and its best PSNR counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import RESULTS, heading, write
from PIL import Image
from torch import Tensor

from compresskit.codec import shelf
from compresskit.codec.base import Base
from compresskit.codec.config import EncodeConfig, EncodeRequest
from compresskit.codec.coordinates import grid
from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.exact import ACTIVATION_BITS
from compresskit.codec.fit import solve
from compresskit.codec.modulation import Modulated, render
from compresskit.codec.patchcode import modulated
from compresskit.codec.pipeline import encode
from compresskit.codec.tiling import cut, tiling
from compresskit.runtime import set_threads

FILES = {
    "Kodak 7": "kodak/kodim07.png",
    "volume 91x109x91": "mri/spm_single_subj_T1.nii.gz",
    "10 s of speech": "speech/3080-5032-0002.flac",
    "30 globes 96x192": "climate/echam_ts_6hourly_2001.npz",
}
REFERENCE_STEPS = 10
RATES = (0.1, 0.3, 1.0, 3.0)
REPEATS = 3


def reference(network: Modulated, x: Tensor, targets: Tensor, rate: float) -> Tensor:
    """Latents (P, L) by gradient descent (thesis, eq. 5.9)."""
    latents = torch.zeros(len(targets), network.latents)
    for _ in range(REFERENCE_STEPS):
        latents.requires_grad_()
        loss = (render(network, x, latents) - targets).square().mean(dim=(1, 2)).sum()
        (gradient,) = torch.autograd.grad(loss, latents)
        latents = (latents - rate * gradient).detach()
    return latents


def seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def against_reference(path: Path) -> dict[str, Any]:
    """Our fit of a picture's patches of 32x32 against the reference, in turns."""
    with Image.open(path) as image:
        samples = np.asarray(image)[None].astype(np.int64)
    base = shelf.suited(sphere=False, axes=2, channels=3)
    assert isinstance(base, Base)
    network, _ = modulated(base)
    tiles = tiling(samples.shape[1:3], (32, 32))
    targets = torch.from_numpy(cut(samples, tiles)).float() / 255
    x = torch.from_numpy(grid(tiles.edges)).float() / 2**ACTIVATION_BITS
    batches = targets.split(32)

    def ours() -> Tensor:
        return torch.cat([solve(network, x, batch) for batch in batches])

    def psnr(latents: Tensor) -> float:
        with torch.no_grad():
            error = sum(float((render(network, x, part) - batch).square().sum()) for part, batch in zip(latents.split(32), batches, strict=True))
        return round(-10 * float(np.log10(error / targets.numel())), 3)

    best = max((psnr(torch.cat([reference(network, x, batch, rate) for batch in batches])), rate) for rate in RATES)
    times = [(seconds(ours), seconds(lambda: [reference(network, x, batch, best[1]) for batch in batches])) for _ in range(REPEATS)]
    mine, theirs = (median(column) for column in zip(*times, strict=True))
    return {
        "file": path.name,
        "ours": {"seconds": round(mine, 3), "psnr": psnr(ours())},
        "reference": {"steps": REFERENCE_STEPS, "rate": best[1], "seconds": round(theirs, 3), "psnr": best[0]},
        "ratio": round(theirs / mine, 2),
    }


def throughput(path: Path, threads: int) -> dict[str, Any]:
    """Encoding and decoding of a file at the default quality, read and checked."""
    output = RESULTS / "speed.coinpp.tmp"
    request = EncodeRequest((str(path),), str(output), EncodeConfig(), force=True, threads=threads)
    reports = [encode(request).report for _ in range(REPEATS)]
    data = output.read_bytes()
    output.unlink()
    signals = list(unpacked_signals(data, None))
    decoding = median(seconds(lambda: list(unpacked_signals(data, None))) for _ in range(REPEATS))
    encoding = median(sum(report.stages.values()) for report in reports)
    megabytes = sum(signal.values.nbytes for signal in signals) / 1e6
    found = reports[0].stream.items[0].distortion
    return {
        "file": path.name,
        "sample_megabytes": round(megabytes, 3),
        "bytes": len(data),
        "psnr": round(found.psnr, 2) if found and found.psnr else None,
        "encode_seconds": round(encoding, 2),
        "decode_seconds": round(decoding, 3),
        "encode_mb_s": round(megabytes / encoding, 3),
        "decode_mb_s": round(megabytes / decoding, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    threads = set_threads(options.threads)
    rows = {name: throughput(options.data / file, threads) for name, file in FILES.items()}
    fits = against_reference(options.data / FILES["Kodak 7"])
    write(RESULTS / "codec_speed.json", {**heading(threads), "repeats": REPEATS, "files": rows, "fit": fits})
    print(rows, fits, sep="\n")


if __name__ == "__main__":
    main()
