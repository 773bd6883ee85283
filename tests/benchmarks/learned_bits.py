"""Learned bit widths against uniform ones: `python tests/benchmarks/learned_bits.py RESNET20.safetensors VGG.pt CIFAR10.npz`.

Weights of 2, 4 and 8 bits everywhere, and widths learned for sizes from near 2 bits to near 8, one of them that of 4 bits everywhere; activations of
8 bits. All get the same epochs (the search for widths counts), trained with LSQ from grids that start alike; sizes are bytes of the weights as
stored over those in float32. VGG.pt is made by robust_bits.py. Rows are kept as they come in results/learned_bits.json; one that is there is not
repeated. A picture is drawn beside it, and `above` says for each learned row how far it lies above the line that joins the uniform ones.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from cifar import load, part
from common import Row, collect
from matplotlib.figure import Figure
from robust_bits import TESTED, accuracy, asked, common_settings, key, nets

from compresskit.data import Dataset
from compresskit.quantization.bitwidths.cost import WIDTHS, WidthCost, width_cost
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


def above(rows: list[Row], row: Row) -> float:
    """How much more accurate a row is than the line between the uniform rows is at its size."""
    line = sorted((one["size"], one["accuracy"]) for one in rows if one["net"] == row["net"] and one["way"].startswith("uniform"))
    return round(row["accuracy"] - float(np.interp(row["size"], *zip(*line, strict=True))), 4)


def draw(rows: list[Row], path: Path) -> None:
    named = list(dict.fromkeys(row["net"] for row in rows))
    figure = Figure(figsize=(6.4 * len(named), 4.2), layout="constrained")
    for axes, net in zip(figure.subplots(1, len(named), squeeze=False)[0], named, strict=True):
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


def jobs(options: argparse.Namespace, whole: Dataset, config: QuantizeConfig) -> Iterator[tuple[tuple[str, str], Callable[[], Row]]]:
    """Uniform bits and learned ones for every network, each from the same quantized start."""
    for net, model, data in nets(options, whole):
        start = quantize(model, data, config)
        assert start.plan is not None
        cost = width_cost(start.network, start.plan.layers, "size", config.activations)
        middle = cost.of(dict.fromkeys(cost.names, 4))
        ways: list[tuple[str, float | int]] = [(f"uniform {bits}", bits) for bits in WIDTHS]
        ways += [(f"learned {goal or middle:.4f}", goal or middle) for goal in BETWEEN]
        for way, wanted in ways:
            yield (net, way), partial(measure, net, way, wanted, model, start, data, config, cost)


def measure(
    net: str, way: str, wanted: float | int, model: onnx.ModelProto, start: Quantized, data: Dataset, config: QuantizeConfig, cost: WidthCost
) -> Row:
    """One row: of `wanted` bits everywhere where that is a whole number, or of widths learned for that size."""
    began = time.process_time()
    if isinstance(wanted, int):
        done, widths = uniform(start, data, config, wanted)
    else:
        mixed = learn_widths(start, data, config, "size", wanted)
        done, widths = mixed.done, mixed.widths
    row = {"net": net, "way": way, "size": round(cost.of(widths), 5), "accuracy": accuracy(done.model, data)}
    took = round(time.process_time() - began, 1)
    layers = dict(sorted(Counter(widths.values()).items()))
    return {**row, "float": accuracy(model, data), "layers": layers, "widths": list(widths.values()), "CPU seconds": took}


def summary(rows: list[Row]) -> dict[str, dict[str, float]]:
    """How far each learned row lies above the line."""
    return {"above": {f"{row['net']}, {row['way']}": above(rows, row) for row in rows if row["way"].startswith("learned")}}


def main() -> None:
    options = asked(__doc__, "learned_bits.json")
    set_threads(1)
    whole = part(load(options.archive), validation=500, test=TESTED)
    config = QuantizeConfig(rounding="nearest", reduce_range=False, epochs=options.epochs, seed=options.seed)
    rows = collect(options.output, 1, common_settings(options), jobs(options, whole, config), key, summary)
    draw(rows, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
