"""What today's base networks save over former ones: `python tests/benchmarks/codec_bases.py --data ../shared/data`.

Sound and scans that no base network has seen are encoded, as `encode` does by default, with the base network of either kind at several sizes of
patches and bits a latent. Of each, the points stay that no other beats in bytes and PSNR. Saved is, at each PSNR of the former curve that
today's reaches too, the part of the former bytes that today's does without, bytes between two points being interpolated in log(bytes) over PSNR.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from codec_ablation_coding import CASES, saved_bytes
from common import RESULTS, heading, write

from compresskit.codec import shelf
from compresskit.codec.base import Base
from compresskit.codec.encoder import Work, encode_coinpp
from compresskit.codec.metrics import psnr
from compresskit.codec.settings import STEPS, Setting
from compresskit.codec.signal import Signal
from compresskit.runtime import set_threads

POINTS = {
    "speech, 256": ((512, 4), (512, 5), (256, 5), (256, 6), (192, 5), (128, 5), (128, 6), (96, 6), (64, 7)),
    "mri, 16": ((24, 6), (16, 6), (12, 6), (16, 7), (12, 7), (16, 8), (8, 7), (8, 8)),
}
"""Edges of patches, and bits, of each case."""
NAMES = {"speech, 256": "audio", "mri, 16": "volume"}

Point = tuple[float, int]


def point(signals: Sequence[Signal], base: Base, setting: Setting) -> Point:
    """Mean PSNR [dB] of signals that are coded one by one, and the bytes of all streams."""
    size, found = 0, []
    for signal in signals:
        coded = encode_coinpp(Work([signal], base, STEPS), setting)
        size += len(coded.data)
        found += [psnr(signal.values, values, signal.peak) for values in coded.decoded]
    return round(fmean(found), 3), size


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats in both, from the fewest bytes on."""
    best: list[Point] = []
    for quality, size in sorted(points, key=lambda found: (found[1], -found[0])):
        if not best or quality > best[-1][0]:
            best.append((quality, size))
    return best


def measured(case: str, data: Path) -> dict[str, Any]:
    """Both curves, and what is saved."""
    signals, found = CASES[case].signals(data), {}
    for kind, folder in (("former", shelf.FORMER), ("today", shelf.CURRENT)):
        base = shelf.shipped(NAMES[case], folder)
        found[kind] = [(*point(signals, base, Setting((edge,), bits)), edge, bits) for edge, bits in POINTS[case]]
    curves = {kind: front([(quality, size) for quality, size, _, _ in rows]) for kind, rows in found.items()}
    return {"items": len(signals), "psnr_bytes_edge_bits": found, "saved_percent": saved_bytes(curves["former"], curves["today"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    threads = set_threads(1)
    found = {case: measured(case, options.data) for case in POINTS}
    write(RESULTS / "codec_bases.json", {**heading(threads), "sets": found})
    for case, parts in found.items():
        print(case, parts["saved_percent"])


if __name__ == "__main__":
    main()
