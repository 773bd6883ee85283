"""Few bits after training, four ways: `python tests/benchmarks/ptq_low_bits.py DATA_FOLDER CIFAR10.npz` (JSON and a figure).

Published ResNet-20s with weights and activations of few bits, everything else equal: weights rounded to the nearest, channels equalized across
layers first, roundings learned on the calibration images, and both. Accuracy on the test images in ONNX Runtime, for each seed another draw of
256 calibration images; `noise` is the mean square of the change of the logits over their variance. DATA_FOLDER is that of `ptq.py`.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, heading, write
from matplotlib.figure import Figure
from ptq import compared, logits, read

from compresskit.data import Dataset, normalize
from compresskit.quantization.calibrate import draw_samples, observe
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.equalize import equalized
from compresskit.quantization.network import Network
from compresskit.quantization.prepare import prepare
from compresskit.quantization.static import planned, quantize_static, round_by_learning
from compresskit.runtime import set_threads
from compresskit.writers import write_bytes

NETS = ("cifar10_resnet20_akamaster", "cifar10_resnet20_chenyaofo")
WIDTHS = ((4, 8), (4, 4), (3, 3))
CONFIG = QuantizeConfig()


def quantized(network: Network, data: Dataset, seed: int) -> Iterator[tuple[int, int, str, bytes, float]]:
    """Every width of one form of a network: weight bits, activation bits, how its weights were rounded, the model, seconds."""
    plan = planned(network, "the model")
    samples = draw_samples(data, CONFIG.samples, seed)
    statistics = observe(network, plan.tensors, samples, len(samples))
    for weights, activations in WIDTHS:
        began = time.perf_counter()
        done = quantize_static(network, plan, statistics, weights=weights, activations=activations, method=CONFIG.calibration)
        yield weights, activations, "nearest", done.model.SerializeToString(), time.perf_counter() - began
        done = round_by_learning(done, plan.layers, samples, seed=seed)
        yield weights, activations, "learned", done.model.SerializeToString(), time.perf_counter() - began


def measure(net: str, folder: Path, archive: Path, seed: int) -> list[dict[str, Any]]:
    """One network and draw of images: a row for the float model, then one for every form, width and way to round."""
    model, data = read(folder, archive, net)
    test = data.test or data.validation
    x = normalize(torch.from_numpy(test.x), data.normalization).numpy()
    wanted = logits(model.SerializeToString(), x)
    network = prepare(model, net)
    rows: list[dict[str, Any]] = [{"net": net, "seed": seed, **compared(wanted, wanted, test.y)}]
    for form, start in (("as they are", network), ("equalized", equalized(network))):
        for weights, activations, rounding, found, seconds in quantized(start, data, seed):
            widths = {"weights": weights, "activations": activations}
            row = {"net": net, "seed": seed, **widths, "channels": form, "rounding": rounding}
            rows.append({**row, **compared(logits(found, x), wanted, test.y), "bytes": len(found), "seconds": round(seconds, 1)})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means and extremes over the seeds."""
    keys = ("net", "weights", "activations", "channels", "rounding")
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if "rounding" in row:
            groups.setdefault(tuple(row[key] for key in keys), []).append(row["accuracy"])
    return [
        {**dict(zip(keys, group, strict=True)), "accuracy": round(float(np.mean(found)), 4), "least": min(found), "greatest": max(found)}
        for group, found in groups.items()
    ]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy by width, a bar for each way, a panel for each network."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, net in zip(figure.subplots(1, len(NETS), sharey=True), NETS, strict=True):
        ways = dict.fromkeys((row["channels"], row["rounding"]) for row in summary(rows))
        for index, way in enumerate(ways):
            mine = [row for row in summary(rows) if row["net"] == net and (row["channels"], row["rounding"]) == way]
            heights = np.array([row["accuracy"] for row in mine])
            spread = np.abs(np.array([[row["least"], row["greatest"]] for row in mine]).T - heights)
            places = np.arange(len(mine)) + (index - (len(ways) - 1) / 2) * 0.2
            axes.bar(places, heights, 0.18, yerr=spread, capsize=2, label=f"channels {way[0]}, {way[1]} rounding")
        axes.set_xticks(range(len(WIDTHS)), [f"W{weights}A{activations}" for weights, activations in WIDTHS])
        axes.axhline(next(row["accuracy"] for row in rows if row["net"] == net and "rounding" not in row), color="0.3", lw=0.8)
        axes.set(title=net, ylim=(0.4, 1.0))
        axes.grid(visible=True, axis="y", alpha=0.25)
    figure.axes[0].set_ylabel("top-1 on 5,000 test images (line: float)")
    figure.axes[0].legend(fontsize=8, loc="lower left")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_bytes(path, stream.getvalue(), force=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="of the calibration images")
    parser.add_argument("--resume", action="store_true", help="keep the rows that the output has")
    parser.add_argument("--output", type=Path, default=RESULTS / "ptq_low_bits.json")
    options = parser.parse_args()
    set_threads(1)
    rows = json.loads(options.output.read_text())["rows"] if options.resume and options.output.exists() else []
    done = {(row["net"], row["seed"]) for row in rows}
    for seed, net in itertools.product(options.seeds, NETS):
        if (net, seed) not in done:
            rows += measure(net, options.folder, options.archive, seed)
            write(options.output, {**heading(1), "calibration_images": CONFIG.samples, "summary": summary(rows), "rows": rows})
    draw(rows, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
