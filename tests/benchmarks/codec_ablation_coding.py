"""What contexts and rounding for rate and distortion save: `python tests/benchmarks/codec_ablation_coding.py --data ../shared/data`.

Latents of COIN++ are coded under tables or in contexts, and rounded to the nearest bin or to those that pay (`--effort` 5), in all four
combinations, at several bits a latent and one size of patch; the first is what version 1 of the format did. Bytes are those of whole
streams, PSNR the mean over items of what the streams decode to. Saved is, at each of the PSNRs that version 1 reaches and another way
reaches too, the part of version 1's bytes that the other way does without, bytes between two streams being interpolated in log(bytes) over PSNR.

Seconds are of one thread's processor, of encoding one item (fit and all) and of decoding it, version 1 and the default in turns.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from codec_ablation import SOUND_PATCH, crops, sounds
from common import RESULTS, heading, write
from matplotlib.figure import Figure

from compresskit.codec import shelf
from compresskit.codec.config import EncodeConfig
from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.encoder import Work, encode_coinpp
from compresskit.codec.metrics import psnr
from compresskit.codec.modalities import read
from compresskit.codec.settings import STEPS, Setting
from compresskit.codec.signal import Signal
from compresskit.runtime import set_threads
from compresskit.writers import write_bytes

WAYS = {
    "tables, nearest": (1, False),
    "contexts, nearest": (1, True),
    "tables, chosen": (EncodeConfig.effort, False),
    "contexts, chosen": (EncodeConfig.effort, True),
}
FIRST, DEFAULT = "tables, nearest", "contexts, chosen"
BITS = (5, 6, 7, 8)
REPEATS = 2


@dataclass(frozen=True)
class Case:
    """Signals, coded one by one, and the edge of their patches."""

    signals: Callable[[Path], list[Signal]]
    edge: int


def pictures(data: Path) -> list[Signal]:
    """One that the base network has not seen, whole."""
    name = "kodim11.png"
    return [read((data / "kodak" / name).read_bytes(), name)]


def volumes(data: Path) -> list[Signal]:
    """The head of one subject."""
    name = "spm_single_subj_T1.nii.gz"
    return [read((data / "mri" / name).read_bytes(), name)]


CASES: Mapping[str, Case] = {
    "kodak, 32": Case(pictures, 32),
    "mri, 16": Case(volumes, 16),
    "speech, 256": Case(lambda data: sounds(data)[:2], SOUND_PATCH),
    "kodak, 16": Case(lambda data: crops(data)[:2], 16),
}


def measured(case: Case, data: Path) -> dict[str, Any]:
    """Rows for every way and bits, what each way saves, and seconds."""
    works = [_work([signal]) for signal in case.signals(data)]
    rows = [{"way": way, "bits": bits, **_row(works, way, Setting((case.edge,), bits))} for way in WAYS for bits in BITS]
    return {"items": len(works), "rows": rows, "saved_percent": {way: saved(rows, way) for way in WAYS}, "seconds": seconds(works[0], case.edge)}


def _work(signals: Sequence[Signal]) -> Work:
    base = shelf.suited(sphere=False, axes=signals[0].values.ndim - 2, channels=signals[0].values.shape[-1])
    return Work(signals, base, STEPS)


def _row(works: Sequence[Work], way: str, setting: Setting) -> dict[str, Any]:
    size, found = 0, []
    for work in works:
        work.effort, work.contexts = WAYS[way]
        stream = encode_coinpp(work, setting).data
        size += len(stream)
        found += [psnr(signal.values, made.values, signal.peak) for signal, made in zip(work.signals, unpacked_signals(stream, None), strict=True)]
    return {"bytes": size, "psnr": round(fmean(found), 3)}


def saved(rows: Sequence[Mapping[str, Any]], way: str) -> list[tuple[float, float]]:
    """PSNRs of version 1 that `way` reaches too, and the bytes saved there [%]."""
    first, other = ([(row["psnr"], row["bytes"]) for row in rows if row["way"] == name] for name in (FIRST, way))
    return saved_bytes(first, other)


def saved_bytes(first: Sequence[tuple[float, int]], other: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """PSNRs of a curve of (PSNR, bytes) that another, of rising PSNR, reaches too, and what that one saves there [%]."""
    levels, sizes = zip(*other, strict=True)
    reached = [(level, size) for level, size in first if levels[0] <= level <= levels[-1]]
    return [(level, round(100 * (1 - float(np.exp(np.interp(level, levels, np.log(sizes)))) / size), 1)) for level, size in reached]


def seconds(work: Work, edge: int) -> dict[str, Any]:
    """Medians, of encoding and decoding one item."""
    found: dict[str, list[tuple[float, float]]] = {FIRST: [], DEFAULT: []}
    for _ in range(REPEATS):
        for way, times in found.items():
            fresh = _work(work.signals)
            fresh.effort, fresh.contexts = WAYS[way]
            began = time.process_time()
            stream = encode_coinpp(fresh, Setting((edge,), BITS[1])).data
            coded = time.process_time()
            list(unpacked_signals(stream, None))
            times.append((coded - began, time.process_time() - coded))
    rows = {way: dict(zip(("encode", "decode"), map(median, zip(*times, strict=True)), strict=True)) for way, times in found.items()}
    ratios = {what: round(rows[DEFAULT][what] / rows[FIRST][what], 2) for what in ("encode", "decode")}
    return {**{way: {what: round(value, 3) for what, value in row.items()} for way, row in rows.items()}, "ratio": ratios}


def draw(found: Mapping[str, Any], path: Path) -> None:
    """A curve for each way, a panel for each set."""
    figure = Figure(figsize=(4 * len(found), 4), layout="constrained")
    for axes, (name, parts) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for way in WAYS:
            rows = [row for row in parts["rows"] if row["way"] == way]
            axes.plot([row["bytes"] for row in rows], [row["psnr"] for row in rows], marker="o", markersize=4, label=way)
        axes.set(title=name, xlabel="bytes", ylabel="PSNR [dB]", xscale="log")
        axes.grid(visible=True, alpha=0.25)
        axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_bytes(path, stream.getvalue(), force=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    threads, path = set_threads(1), RESULTS / "codec_ablation_coding.json"
    found: dict[str, Any] = json.loads(path.read_text())["sets"] if path.exists() else {}
    for name in options.sets:
        found[name] = measured(CASES[name], options.data)
        print(name, json.dumps(found[name], indent=1), flush=True)
        write(path, {**heading(threads), "steps": STEPS, "sets": {key: found[key] for key in CASES if key in found}})
    draw(found, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
