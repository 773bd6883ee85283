"""What each part of COIN++ saves over our first format: `python tests/benchmarks/codec_ablation_coding.py --data ../shared/data`.

Signals that no base network has seen are encoded one by one, at several sizes of patches and bits a latent, in these ways:

    first format              base networks whose shifts are modulated, latents rounded to the nearest bin, under tables (version 1)
    contexts and rounding     the same base networks; latents in contexts, rounded for rate and distortion (version 2)
    no prediction             base networks whose output layer is modulated, but that guess no latent from neighbours
    no expectations           likewise, with prediction, but magnitudes are expected to be those that are typical of the latent
    nearest                   likewise, with both, but values are rounded to the nearest: `--effort 1`
    default                   what `encode` does (version 4)

Bytes are those of whole streams, PSNR the mean over items. Of each way the points stay that no other point of it beats in both. Saved is, at each
of the PSNRs that the first format reaches and the other way reaches too, the part of the first format's bytes that the other way does without,
bytes between two streams being interpolated in log(bytes) over PSNR. Seconds are of one thread's processor, of encoding one item (fit and all)
and of decoding it, the first format and the default in turns, at about one PSNR.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from codec_ablation import sounds
from common import RESULTS, heading, write
from matplotlib.figure import Figure

from compresskit.codec import shelf
from compresskit.codec.base import Base
from compresskit.codec.config import EncodeConfig
from compresskit.codec.contexts import SCALE_BITS
from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.encoder import Work, encode_coinpp
from compresskit.codec.latentprior import LatentPrior
from compresskit.codec.metrics import psnr
from compresskit.codec.modalities import read
from compresskit.codec.settings import GRID, STEPS, Setting
from compresskit.codec.signal import Signal
from compresskit.runtime import set_threads
from compresskit.writers import write_bytes

FIRST, DEFAULT = "first format", "default"
REPEATS = 3

FIRST_GRID = {
    1: ((768, 4), (512, 4), (384, 5), (256, 5), (192, 5), (128, 6), (96, 6), (64, 7)),
    2: ((64, 6), (48, 6), (32, 6), (32, 7), (24, 7), (16, 7), (12, 7), (8, 7)),
    3: ((24, 6), (16, 6), (12, 6), (12, 7), (8, 7), (8, 8)),
}
"""Edges of patches, and bits, of the first format, by spatial axes."""

Point = tuple[float, int]


@dataclass(frozen=True)
class Way:
    """How signals are encoded: from the name of the base network to it, effort, and whether symbols may be in contexts."""

    base: Callable[[str], Base]
    effort: int = EncodeConfig.effort
    contexts: bool = True
    first: bool = False

    def work(self, name: str, signal: Signal) -> Work:
        """A signal on its way."""
        return Work([signal], self.base(name), STEPS, effort=self.effort, contexts=self.contexts)

    def settings(self, axes: int) -> tuple[Setting, ...]:
        """From the smallest stream on."""
        return tuple(Setting((edge,), bits) for edge, bits in FIRST_GRID[axes]) if self.first else GRID[axes]


@dataclass(frozen=True)
class Case:
    """Signals, the name of their base network, and the settings of the first format and of today that come to about one PSNR."""

    signals: Callable[[Path], list[Signal]]
    base: str
    alike: tuple[Setting, Setting]


def changed(name: str, change: Callable[[Base, LatentPrior], LatentPrior]) -> Base:
    """A base network that expects something else of its latents."""
    base = shelf.shipped(name)
    assert base.prior is not None
    return replace(base, prior=change(base, base.prior), stored=b"")


def typical(base: Base, prior: LatentPrior) -> LatentPrior:
    """The magnitudes that values of Laplace's distribution have, with the spread of each latent, whatever is around."""
    falls = {bits: step * np.sqrt(2) / base.spread for bits, step in base.steps.items()}
    means = {bits: np.exp(-fall / 2) / -np.expm1(-fall) for bits, fall in falls.items()}
    rest = {bits: np.rint(np.ldexp(np.stack([mean, mean]), SCALE_BITS)).astype(np.int64) for bits, mean in means.items()}
    return replace(prior, own=np.zeros_like(prior.own), near=np.zeros_like(prior.near), rest=rest)


def former(name: str) -> Base:
    """The base network of the first format."""
    return shelf.shipped(name, shelf.FORMER)


WAYS = {
    FIRST: Way(former, 1, contexts=False, first=True),
    "contexts and rounding": Way(former, first=True),
    "no prediction": Way(lambda name: changed(name, lambda _, prior: replace(prior, maps={}))),
    "no expectations": Way(lambda name: changed(name, typical)),
    "nearest": Way(shelf.shipped, 1),
    DEFAULT: Way(shelf.shipped),
}


def one(*parts: str) -> Callable[[Path], list[Signal]]:
    """The signal in one file."""
    return lambda data: [read(data.joinpath(*parts).read_bytes(), parts[-1])]


CASES: Mapping[str, Case] = {
    "Kodak 11": Case(one("kodak", "kodim11.png"), "image", (Setting((24,), 7), Setting((16,), 6))),
    "a scan": Case(one("mri", "spm_single_subj_T1.nii.gz"), "volume", (Setting((8,), 7), Setting((8,), 7))),
    "speech": Case(lambda data: sounds(data)[:2], "audio", (Setting((128,), 6), Setting((256,), 5))),
}


def measured(case: Case, data: Path) -> dict[str, Any]:
    """The points of all ways, what each way saves, and seconds."""
    signals, found = case.signals(data), {}
    for name, way in WAYS.items():
        works = [way.work(case.base, signal) for signal in signals]
        found[name] = [(*point(works, setting), *setting.patch, setting.bits) for setting in way.settings(signals[0].values.ndim - 2)]
    fronts = {name: front([(quality, size) for quality, size, *_ in rows]) for name, rows in found.items()}
    saved = {name: saved_bytes(fronts[FIRST], fronts[name]) for name in WAYS if name != FIRST}
    return {"items": len(signals), "psnr_bytes_edge_bits": found, "saved_percent": saved, "seconds": seconds(case, signals[0])}


def point(works: Sequence[Work], setting: Setting) -> Point:
    """Mean PSNR [dB], and the bytes of all streams."""
    size, found = 0, []
    for work in works:
        coded = encode_coinpp(work, setting)
        size += len(coded.data)
        found += [psnr(signal.values, values, signal.peak) for signal, values in zip(work.signals, coded.decoded, strict=True)]
    return round(fmean(found), 3), size


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats in both, from the fewest bytes on."""
    best: list[Point] = []
    for quality, size in sorted(points, key=lambda found: (found[1], -found[0])):
        if not best or quality > best[-1][0]:
            best.append((quality, size))
    return best


def saved_bytes(first: Sequence[Point], other: Sequence[Point]) -> list[tuple[float, float]]:
    """PSNRs of a curve of (PSNR, bytes) that another, of rising PSNR, reaches too, and what that one saves there [%]."""
    levels, sizes = zip(*other, strict=True)
    reached = [(level, size) for level, size in first if levels[0] <= level <= levels[-1]]
    return [(level, round(100 * (1 - float(np.exp(np.interp(level, levels, np.log(sizes)))) / size), 1)) for level, size in reached]


def seconds(case: Case, signal: Signal) -> dict[str, Any]:
    """Medians, of encoding and decoding one item."""
    pairs = dict(zip((FIRST, DEFAULT), case.alike, strict=True))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
    points = {name: point([WAYS[name].work(case.base, signal)], setting) for name, setting in pairs.items()}
    for _ in range(REPEATS):
        for name, setting in pairs.items():
            work, began = WAYS[name].work(case.base, signal), time.process_time()
            stream, coded = encode_coinpp(work, setting).data, time.process_time()
            list(unpacked_signals(stream, None))
            times[name].append((coded - began, time.process_time() - coded))
    rows = {name: dict(zip(("encode", "decode"), map(median, zip(*found, strict=True)), strict=True)) for name, found in times.items()}
    ratios = {what: round(rows[DEFAULT][what] / rows[FIRST][what], 3) for what in ("encode", "decode")}
    shown = {name: {"psnr": points[name][0], **{what: round(value, 3) for what, value in row.items()}} for name, row in rows.items()}
    return {**shown, "ratio": ratios}


def draw(found: Mapping[str, Any], path: Path) -> None:
    """A curve for each way, a panel for each set."""
    figure = Figure(figsize=(4.5 * len(found), 4.5), layout="constrained")
    for axes, (name, parts) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for way, rows in parts["psnr_bytes_edge_bits"].items():
            levels, sizes = zip(*front([(row[0], row[1]) for row in rows]), strict=True)
            axes.plot(sizes, levels, marker="o", markersize=4, label=way)
        axes.set(title=name, xlabel="bytes", ylabel="PSNR [dB]", xscale="log")
        axes.grid(visible=True, alpha=0.25)
        axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_bytes(path, stream.getvalue(), force=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    threads, path = set_threads(1), RESULTS / "codec_ablation_coding.json"
    found = {}
    for name, case in CASES.items():
        found[name] = measured(case, options.data)
        print(name, json.dumps(found[name]["saved_percent"]), json.dumps(found[name]["seconds"]), flush=True)
    write(path, {**heading(threads), "steps": STEPS, "sets": found})
    draw(found, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
