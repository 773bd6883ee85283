"""Learned bit widths against uniform ones: `python tests/benchmarks/learned_bits.py RESNET20.safetensors VGG.pt CIFAR10.npz`.

Weights of 2, 4 and 8 bits everywhere, and widths learned for sizes from near 2 bits to near 8, one of them that of 4 bits everywhere; activations of
8 bits. All get the same epochs (the search for widths counts), trained with LSQ from grids that start alike; sizes are bytes of the weights as
stored over those in float32. VGG.pt is made by robust_bits.py. Rows are kept as they come in results/learned_bits.json; one that is there is not
repeated. A picture is drawn beside it, and `above` says for each learned row how far it lies above the line that joins the uniform ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cifar import lifted, load, part
from common import RESULTS, heading, write
from matplotlib.figure import Figure
from robust_bits import TESTED, accuracy, trained_vgg

from compresskit.data import Dataset
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.quantization.bitwidths.cost import WIDTHS, width_cost
from compresskit.quantization.bitwidths.learn import learn_widths, level_grids, with_widths
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.quantization.qat.engine import train_quantized
from compresskit.quantization.quantized import Quantized
from compresskit.runtime import set_threads

BETWEEN = (0.08, 0.1, None, 0.16)  # None: what 4 bits everywhere come to


def uniform(start: Quantized, data: Dataset, config: QuantizeConfig, bits: int) -> tuple[Quantized, dict[str, int]]:
    """The same bits everywhere, from the grids that mixed widths start from."""
    grids = {name: levels[WIDTHS.index(bits)] for name, levels in level_grids(start, WIDTHS[-1]).items()}
    done = train_quantized(with_widths(start, grids), data, replace(config, method="lsq"))
    return done, dict.fromkeys(grids, bits)


def above(rows: list[dict[str, Any]], row: dict[str, Any]) -> float:
    """How much more accurate a row is than the line between the uniform rows is at its size."""
    line = sorted((one["size"], one["accuracy"]) for one in rows if one["net"] == row["net"] and one["way"].startswith("uniform"))
    return round(row["accuracy"] - float(np.interp(row["size"], *zip(*line, strict=True))), 4)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    nets = list(dict.fromkeys(row["net"] for row in rows))
    figure = Figure(figsize=(6.4 * len(nets), 4.2), layout="constrained")
    for axes, net in zip(figure.subplots(1, len(nets), squeeze=False)[0], nets, strict=True):
        for way in ("uniform", "learned"):
            points = sorted((row["size"], 100 * row["accuracy"]) for row in rows if row["net"] == net and row["way"].startswith(way))
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, label=f"{way} widths")
        axes.axhline(next(100 * row["float"] for row in rows if row["net"] == net), color="0.6", linestyle=":", label="float")
        axes.set_title(f"{net}: weights of 2, 4 and 8 bits, activations of 8", fontsize=10)
        axes.set_xlabel("bytes of the weights, of float32's")
        axes.set_ylabel("test accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("resnet", type=Path)
    parser.add_argument("vgg", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--nets", nargs="+", default=("VGG-like", "ResNet-20"))
    parser.add_argument("--images", type=int, nargs=2, default=(2560, 10240), help="to train ResNet-20 and the VGG-like network on")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "learned_bits.json")
    options = parser.parse_args()
    set_threads(1)
    whole = part(load(options.archive), validation=500, test=TESTED)
    settings = {"images": options.images, "epochs": options.epochs, "seed": options.seed, "tested": TESTED}
    rows: list[dict[str, Any]] = json.loads(options.output.read_text())["rows"] if options.output.exists() else []
    config = QuantizeConfig(rounding="nearest", reduce_range=False, epochs=options.epochs, seed=options.seed)
    for net in options.nets:
        published = net == "ResNet-20"
        count = options.images[0 if published else 1]
        data = part(whole, train=count)
        graph = load_model(options.resnet, arch="resnet20") if published else lifted(trained_vgg(options.vgg, whole), net)
        model = export_onnx(graph)
        start = quantize(model, data, config)
        assert start.plan is not None
        cost = width_cost(start.network, start.plan.layers, "size", config.activations)
        middle = cost.of(dict.fromkeys(cost.names, 4))
        ways: list[tuple[str, float | int]] = [(f"uniform {bits}", bits) for bits in WIDTHS]
        ways += [(f"learned {goal or middle:.4f}", goal or middle) for goal in BETWEEN]
        found = {row["way"] for row in rows if row["net"] == net}
        before = accuracy(model, data) if len(found) < len(ways) else 0.0
        for way, asked in ways:
            if way in found:
                continue
            began = time.process_time()
            if isinstance(asked, int):
                done, widths = uniform(start, data, config, asked)
            else:
                mixed = learn_widths(start, data, config, "size", asked)
                done, widths = mixed.done, mixed.widths
            row = {"net": net, "way": way, "size": round(cost.of(widths), 5), "accuracy": accuracy(done.model, data), "float": before}
            took = round(time.process_time() - began, 1)
            rows.append({**row, "layers": dict(sorted(Counter(widths.values()).items())), "widths": list(widths.values()), "CPU seconds": took})
            if way.startswith("learned"):
                rows[-1]["above"] = above(rows, rows[-1])
            print(rows[-1], file=sys.stderr, flush=True)
            write(options.output, {**heading(1), **settings, "rows": rows})
    draw(rows, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
