"""What the choices of the codec cost or gain: `python tests/benchmarks/codec_ablation.py --data ../shared/data`. Writes results/codec_ablation.json.

This is our first format: base networks whose shifts are modulated, latents rounded to the nearest bin and coded under tables.
codec_ablation_coding.py compares it with what is done today.

On test data, cut so that patches fill it, each set as one archive; a run replaces the sets that it measures and keeps the others:

    bits        3, 5, 6 and 8 bits a latent: bytes of the stream, and PSNR as the thesis takes it (before anything is rounded), with latents
                rounded, with samples rounded too, and of what the stream decodes to in integers
    tables      bytes of the same symbols under a frequency table for each latent, and under one for all; and, as the thesis cuts each latent
                into bins of its own width, the same for such symbols, tables counted on one part of the images and used on another
    inference   PSNR and CPU seconds of float32, float64 and integers of several widths (narrow_inference.py)

PSNR is the mean over items. Seconds are of one thread, the median of several runs in turns, and of the first patches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from codec_ablation_plot import draw
from common import RESULTS, heading, write
from narrow_inference import Precision, evaluate_narrow, narrowed
from numpy.typing import NDArray
from PIL import Image
from rate_distortion_sets import speech

from compresskit.codec import coin, shelf
from compresskit.codec.base import Base
from compresskit.codec.coordinates import grid
from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.encoder import Work, encode_coinpp
from compresskit.codec.entropy import encode_columns, normalize
from compresskit.codec.exact import ACTIVATION_BITS, IntegerNetwork, Integers, evaluate
from compresskit.codec.metrics import psnr
from compresskit.codec.modalities import read
from compresskit.codec.modulation import Modulated, render
from compresskit.codec.patchcode import SYMBOL_CHUNK, modulated
from compresskit.codec.quantize import LATENT_FRACTION, UniformQuantizer, k_sigma
from compresskit.codec.settings import STEPS, Setting
from compresskit.codec.signal import Scale, Signal
from compresskit.codec.siren import Siren, forward, to_integer
from compresskit.codec.tiling import Tiling, cut, tiling
from compresskit.runtime import set_threads

BITS = (3, 5, 6, 8)
SHOWN_BITS = 6  # at which inference is compared
PRECISIONS = tuple(Precision(*bits) for bits in ((16, 14), (16, 12), (14, 14), (14, 12), (12, 12), (12, 10), (10, 10)))
OURS = PRECISIONS[0]
CROP, PATCH = 256, 32
CIFAR_IMAGES, CIFAR_STRIPS = 1280, 3
COUNTED, MOST_INFERRED = 1024, 640  # patches
SOUND_SAMPLES, SOUND_PATCH = 81920, 256
COIN_CROP, COIN_WIDTH, COIN_DEPTH, COIN_STEPS = 128, 64, 5, 100
ROUNDS = 3
AT_ONCE = 32  # patches that floats render
FORMER = {1: "audio", 2: "image", 3: "volume"}
"""The base networks of the first format, by spatial axes."""


@dataclass(frozen=True, eq=False)
class Case:
    """Patches that a network renders, in floats and in integers.

    Attributes:
        network: of integers.
        floats: samples (P, N, channels) in 0..1 at (N, dims), in the carrier asked for.
        coordinates: (N, dims) integers.
        shifts: (P, hidden layers, width); mapping latents to them is part of decoding.
        targets: (P, N, channels) levels.
        levels: how many there are.
        peak: in levels.
        items: that the patches come from, as many of each.
    """

    network: IntegerNetwork
    floats: Callable[[torch.dtype], NDArray[np.float64]]
    coordinates: Integers
    shifts: Callable[[], Integers]
    targets: Integers
    levels: int
    peak: float
    items: int

    def psnr(self, made: NDArray[np.generic]) -> float:
        """Of levels, rounded or not."""
        pairs = zip(np.split(self.targets, self.items), np.split(made, self.items), strict=True)
        return round(fmean(psnr(target, item, self.peak) for target, item in pairs), 3)

    def rounded(self, samples: NDArray[np.float64]) -> Integers:
        """The levels that samples in 0..1 are rounded to."""
        return np.rint(samples.clip(0, 1) * (self.levels - 1)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Coded:
    """Signals of one shape with the latents of their patches, and what makes streams of them."""

    base: Base
    work: Work
    patch: tuple[int, ...]

    @property
    def latents(self) -> NDArray[np.float32]:
        """(P, L), as fitted."""
        return np.concatenate(self.work.latents[self.patch])

    @property
    def tiles(self) -> Tiling:
        """How each signal lies in patches."""
        spatial = self.work.signals[0].values.shape[1:-1]
        return tiling(spatial, self.patch * len(spatial))

    def case(self, latents: NDArray[np.float64]) -> Case:
        """The patches of the first signals under other latents (P, L)."""
        tiles, signal = self.tiles, self.work.signals[0]
        items = len(latents) // tiles.patches
        units = np.rint(np.ldexp(latents, LATENT_FRACTION)).astype(np.int64)
        targets = np.concatenate([cut(levels, tiles) for levels in self.work.levels[:items]])
        scale, coordinates = signal.scale, grid(tiles.edges)
        floats = partial(rendered_in_floats, self.base, latents, coordinates)
        shifts = partial(self.base.shifts, units)
        return Case(self.base.network, floats, coordinates, shifts, targets, scale.levels, signal.peak / scale.step, items)


def rendered_in_floats(base: Base, latents: NDArray[np.float64], coordinates: Integers, dtype: torch.dtype) -> NDArray[np.float64]:
    """Samples (P, N, channels) in 0..1 as the thesis's decoder computes them."""
    network, _ = modulated(base)
    siren = network.siren
    siren = Siren(tuple(weight.to(dtype) for weight in siren.weights), tuple(bias.to(dtype) for bias in siren.biases), siren.omega)
    network = Modulated(siren, network.mapping.to(dtype))
    x = torch.from_numpy(coordinates).to(dtype) / 2**ACTIVATION_BITS
    with torch.no_grad():
        parts = [render(network, x, part) for part in torch.from_numpy(latents).to(dtype).split(AT_ONCE)]
    return torch.cat(parts).double().numpy()


def crops(data: Path) -> list[Signal]:
    """The middles of pictures that the base network has not seen."""
    pictures = [read(path.read_bytes(), path.name) for path in (data / "kodak" / f"kodim{number:02d}.png" for number in range(7, 13))]
    return [replace(picture, values=_middle(picture.values, CROP)) for picture in pictures]


def _middle(values: NDArray[np.generic], edge: int) -> NDArray[np.generic]:
    top, left = ((size - edge) // 2 for size in values.shape[1:3])
    return np.ascontiguousarray(values[:, top : top + edge, left : left + edge])


def thumbnails(data: Path) -> list[Signal]:
    """Test images of CIFAR-10 whose pixels are known to be the originals."""
    folder = data / "cifar10"
    strips = [np.array(Image.open(path).convert("RGB")).reshape(-1, 1, 32, 32, 3) for path in sorted(folder.glob("test_*.webp"))[:CIFAR_STRIPS]]
    images = np.concatenate(strips)
    with np.load(folder / "labels.npz", allow_pickle=False) as labels:
        chosen = np.flatnonzero(labels["test_lossless"][: len(images)])[:CIFAR_IMAGES]
    return [Signal(images[number], "image", "png", Scale(0.0, 1.0, 256), 255.0, name=f"{number:04d}") for number in chosen]


def sounds(data: Path) -> list[Signal]:
    """The first five seconds of speech by those whom the base network has not heard."""
    found = [read(path.read_bytes(), path.name) for path in speech(data, Path())]
    return [replace(sound, values=sound.values[:, :SOUND_SAMPLES]) for sound in found if sound.values.shape[1] >= SOUND_SAMPLES]


def bits_rows(coded: Coded) -> Iterator[dict[str, Any]]:
    """One row for each number of bits: what is lost where."""
    points = sum(signal.values[..., 0].size for signal in coded.work.signals)
    for bits in BITS:
        stream = encode_coinpp(coded.work, Setting(coded.patch, bits)).data
        pairs = zip(coded.work.signals, unpacked_signals(stream, None), strict=True)
        decoded = fmean(psnr(signal.values, restored.values, signal.peak) for signal, restored in pairs)
        quantized = coded.case(_quantized(coded, bits))
        samples = quantized.floats(torch.float32)
        yield {
            "bits": bits,
            "bytes": len(stream),
            "bpp": round(8 * len(stream) / points, 4),
            "psnr_latents_rounded": quantized.psnr(samples * (quantized.levels - 1)),
            "psnr_samples_rounded": quantized.psnr(quantized.rounded(samples)),
            "psnr_of_the_stream": round(decoded, 3),
        }


def nothing_rounded(coded: Coded) -> float:
    """PSNR of floats throughout, which the thesis's implementation reports."""
    case = coded.case(coded.latents.astype(np.float64))
    return case.psnr(case.floats(torch.float32) * (case.levels - 1))


def _quantized(coded: Coded, bits: int) -> NDArray[np.float64]:
    quantizer = coded.base.quantizer(bits)
    return np.ldexp(quantizer.latents(quantizer.symbols(coded.latents)).astype(np.float64), -LATENT_FRACTION)


def tables_rows(coded: Coded) -> Iterator[dict[str, Any]]:
    """Bytes under the base network's tables, and under their sum."""
    for bits in BITS:
        symbols, tables = coded.base.quantizer(bits).symbols(coded.latents), coded.base.tables[bits]
        yield {"bits": bits, **_compared(symbols, tables)}


def thesis_tables_rows(coded: Coded) -> Iterator[dict[str, Any]]:
    """Likewise with bins of each latent's own width (thesis, section 5.2.3): counted on the first patches, and on half a patch everywhere."""
    for bits in BITS:
        counted, used = np.split(coded.latents, [COUNTED])
        quantizer: UniformQuantizer = k_sigma(counted.mean(axis=0), counted.std(axis=0), bits)
        counts = np.stack([np.bincount(column, minlength=1 << bits) for column in quantizer.symbols(counted).T])
        yield {"bits": bits, **_compared(quantizer.symbols(used), normalize(2 * counts + 1))}


def _compared(symbols: NDArray[np.int32], tables: NDArray[np.uint32]) -> dict[str, Any]:
    one = np.broadcast_to(normalize(tables.sum(axis=0, dtype=np.int64)), tables.shape)
    own, merged = (sum(len(encode_columns(part, used)) for part in _chunks(symbols)) for used in (tables, one))
    return {"a_table_a_latent": own, "one_table": merged, "saved_percent": round(100 * (1 - own / merged), 1)}


def _chunks(symbols: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
    return (symbols[begin : begin + SYMBOL_CHUNK] for begin in range(0, len(symbols), SYMBOL_CHUNK))


def overfitted(data: Path) -> Case:
    """A COIN network of a small picture at a quality at which inference shows."""
    signal = read((data / "kodak" / "kodim07.png").read_bytes(), "kodim07.png")
    levels = _middle(signal.values, COIN_CROP).astype(np.int64).reshape(1, -1, 3)
    coordinates = grid((COIN_CROP, COIN_CROP))
    x, y = torch.from_numpy(coordinates).float() / 2**ACTIVATION_BITS, torch.from_numpy(levels[0]).float() / 255
    siren = coin.fit(x, y, coin.CoinConfig(COIN_WIDTH, COIN_DEPTH, COIN_STEPS), torch.Generator().manual_seed(0))

    def floats(dtype: torch.dtype) -> NDArray[np.float64]:
        weights, biases = (tuple(tensor.to(dtype) for tensor in part) for part in (siren.weights, siren.biases))
        return forward(Siren(weights, biases, siren.omega), x.to(dtype)).double().numpy()[None]

    shifts = np.zeros((1, COIN_DEPTH, COIN_WIDTH), np.int64)
    return Case(to_integer(siren), floats, coordinates, lambda: shifts, levels, 256, 255.0, 1)


def inference_rows(case: Case) -> list[dict[str, Any]]:
    """PSNR and seconds of every way to evaluate the network."""
    ways: dict[str, Callable[[], Integers]] = {
        "float32": lambda: case.rounded(case.floats(torch.float32)),
        "float64": lambda: case.rounded(case.floats(torch.float64)),
        "decoder": lambda: evaluate(case.network, case.coordinates, case.shifts(), case.levels),
    }
    for precision in PRECISIONS:
        narrow = narrowed(case.network, case.shifts(), precision)
        for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
            if name == "float64" or narrow.float32:
                carried = narrow.carried_by(dtype)
                ways[f"{precision.weights}/{precision.activations} in {name}"] = partial(evaluate_narrow, carried, case.coordinates, case.levels)
    made = {name: way() for name, way in ways.items()}
    if not np.array_equal(made["decoder"], made[f"{OURS.weights}/{OURS.activations} in float64"]):
        raise AssertionError("narrow_inference.py does not do what the decoder does")
    rounds = [{name: _seconds(way) for name, way in ways.items()} for _ in range(ROUNDS)]
    return [{"inference": name, "psnr": case.psnr(made[name]), "cpu_seconds": round(median(run[name] for run in rounds), 4)} for name in ways]


def _seconds(way: Callable[[], object]) -> float:
    began = time.process_time()
    way()
    return time.process_time() - began


def measured(signals: Sequence[Signal], edge: int) -> dict[str, Any]:
    """All that is measured on one set, in patches of this edge."""
    values = signals[0].values
    base = shelf.shipped(FORMER[values.ndim - 2], shelf.FORMER)
    assert base is not None, "the shipped base networks are missing"
    coded = Coded(base, Work(signals, base, STEPS, effort=1, contexts=False), (edge,))
    encode_coinpp(coded.work, Setting(coded.patch, SHOWN_BITS))
    patches = len(coded.latents)
    inferred = min(MOST_INFERRED, patches) // coded.tiles.patches * coded.tiles.patches
    return {
        "patches": patches,
        "points_a_patch": coded.tiles.points,
        "psnr_nothing_rounded": nothing_rounded(coded),
        "bits": list(bits_rows(coded)),
        "tables": list(tables_rows(coded)),
        "tables_for_own_bins": list(thesis_tables_rows(coded)) if patches > COUNTED else [],
        "patches_inferred": inferred,
        "inference": inference_rows(coded.case(_quantized(coded, SHOWN_BITS)[:inferred])),
    }


def overfitted_measured(data: Path) -> dict[str, Any]:
    """Inference of a network without latents."""
    case = overfitted(data)
    return {"patches": 1, "points_a_patch": len(case.coordinates), "patches_inferred": 1, "inference": inference_rows(case)}


SETS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "kodak": lambda data: measured(crops(data), PATCH),
    "cifar": lambda data: measured(thumbnails(data), PATCH),
    "speech": lambda data: measured(sounds(data), SOUND_PATCH),
    "coin": overfitted_measured,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    threads, path = set_threads(1), RESULTS / "codec_ablation.json"
    found: dict[str, Any] = json.loads(path.read_text())["sets"] if path.exists() else {}
    for name in options.sets:
        found[name] = SETS[name](options.data)
        print(table(name, found[name]), flush=True)
        write(path, {**heading(threads), "sets": {name: found[name] for name in SETS if name in found}})
    draw(found, path.with_suffix(".png"))


def table(name: str, found: dict[str, Any]) -> str:
    """What was found on one set as lines."""
    lines = [name]
    for part, value in found.items():
        rows = value if isinstance(value, list) else [{part: value}]
        lines += [part] if isinstance(value, list) else []
        lines += ["    " + "  ".join(f"{key} {number}" for key, number in row.items()) for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
