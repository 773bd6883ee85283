"""What more compute gives a base network: `python tests/benchmarks/codec_training.py --data ../shared/data --cifar CIFAR10.npz`.

The base network of pictures is trained with a fraction and with a multiple of its usual compute: iterations of the search for its weights, patches
that its components and expectations are learned from, and steps in which expectations are. Pictures that none has seen are encoded with each; more
bytes are those at equal PSNR, against the usual compute, interpolated in log(bytes) over PSNR, mean over pictures and PSNRs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import numpy as np
from codec_ablation_coding import Point, point
from common import RESULTS, heading, write
from train_bases import pictures

from compresskit.codec import calibrate as calibration
from compresskit.codec import learnprior, metatrain
from compresskit.codec.base import Base
from compresskit.codec.calibrate import calibrate
from compresskit.codec.encoder import Work
from compresskit.codec.kinds import KINDS
from compresskit.codec.metatrain import train
from compresskit.codec.modalities import read
from compresskit.codec.settings import STEPS, Setting
from compresskit.runtime import set_threads

COMPUTE = (0.1, 0.3, 1.0, 3.0, 10.0)
PICTURES = ("kodim07.png", "kodim11.png")
SETTINGS = tuple(Setting((16,), bits) for bits in (5, 6, 7, 8, 9))


def trained(options: argparse.Namespace, compute: float) -> tuple[Base, float]:
    """The base network, and the CPU seconds that it took."""
    kind, began = KINDS["image"], time.process_time()
    config, edges = replace(kind.config, start=round(kind.config.start * compute)), tuple(kind.block * edge for edge in kind.edges)
    scaled = {
        (module, name): round(getattr(module, name) * compute)
        for module, name in ((metatrain, "COMPONENT_PATCHES"), (calibration, "FITTED"), (learnprior, "WEIGHED"), (learnprior, "STEPS"))
    }
    patches = [patch.object(module, name, value) for (module, name), value in scaled.items()]
    for one in patches:
        one.start()
    try:
        draw, x = pictures(options, kind.edges), kind.coordinates()
        network = train(draw, x, config, edges=kind.grid)
        blocks = pictures(options, edges), (kind.block,) * len(edges)
        base = calibrate(network, draw, x, config, name="image", geometry=kind.geometry, edges=kind.edges, blocks=blocks)
    finally:
        patch.stopall()
    return base, time.process_time() - began


def more_bytes(usual: list[Point], other: list[Point]) -> float:
    """Mean part of the bytes that `other` takes more than `usual` at its PSNRs [%]."""
    levels, sizes = zip(*usual, strict=True)
    inside = [(level, size) for level, size in other if levels[0] <= level <= levels[-1]]
    return fmean(100 * (size / float(np.exp(np.interp(level, levels, np.log(sizes)))) - 1) for level, size in inside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cifar", type=Path, required=True)
    options = parser.parse_args()
    threads = set_threads(1)
    signals = [read((options.data / "kodak" / name).read_bytes(), name) for name in PICTURES]
    curves: dict[float, list[list[Point]]] = {}
    rows: list[dict[str, Any]] = []
    for compute in sorted(COMPUTE, key=lambda value: value != 1.0):  # the usual one first: the others are compared with it
        base, seconds = trained(options, compute)
        curves[compute] = [[point([Work([signal], base, STEPS)], setting) for setting in SETTINGS] for signal in signals]
        more = fmean(more_bytes(usual, other) for usual, other in zip(curves[1.0], curves[compute], strict=True))
        rows.append({"compute": compute, "cpu_seconds": round(seconds), "psnr_bytes": curves[compute], "more_bytes_percent": round(more, 2)})
        print({key: value for key, value in rows[-1].items() if key != "psnr_bytes"}, flush=True)
    write(RESULTS / "codec_training.json", {**heading(threads), "pictures": PICTURES, "rows": sorted(rows, key=lambda row: row["compute"])})


if __name__ == "__main__":
    main()
