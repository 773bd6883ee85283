"""CIFAR-10's ResNet-20 at few bits: `python tests/benchmarks/qat.py WEIGHTS.safetensors CIFAR10.npz`.

Each row is one width, method and seed: post-training quantization (weights to the nearest integers, or by learned rounding) and training
under quantization (STE, DoReFa, LSQ), all with the same few epochs on the same random images, the quantizers' own defaults, and the first and the
last layer at 8 bits, as the papers of DoReFa and LSQ have them. Accuracy is that of the emitted ONNX model on test images, `simulated` that of the
network in torch on some of them, `agreement` how often both then say the same class. Seconds are of processor time. Rows that the output holds
already are kept: the script goes on where it was stopped. `aims` says what was asked for.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
import onnx
import onnxruntime
from cifar import load
from common import RESULTS, Row, collect

from compresskit.data import Dataset, Split
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.quantization.measure import onnx_accuracy
from compresskit.quantization.qat.engine import train_quantized
from compresskit.quantization.qat.network import trainable
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.quantizers import FakeQuant
from compresskit.runtime import set_threads
from compresskit.training import evaluate

WIDTHS = ((4, 4), (4, 8), (3, 3))
METHODS = ("ptq", "ptq-learned", "lsq", "ste", "dorefa")
IMAGES, EPOCHS, BATCH, EDGES = 8000, 2.0, 32, 8
SIMULATED = 500
AIMS = {"lsq_w4a4_drop": 0.01}


def name(bits: tuple[int, int]) -> str:
    """W4A8: 4 bits a weight, 8 an activation."""
    return f"W{bits[0]}A{bits[1]}"


def some(split: Split, count: int, seed: int) -> Split:
    """Images drawn at random."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(split))[:count])
    return Split(split.x[chosen], split.y[chosen])


def simulated(done: Quantized, data: Dataset) -> float:
    """Accuracy of the network in torch, rounded as training sees it."""
    assert done.plan is not None
    weights = {name: FakeQuant(grid) for name, grid in done.weights.items()}
    activations = {members[0]: FakeQuant(done.activations[members[0]]) for members in done.plan.sets}
    network = done.network.edited(done.network.nodes, done.rounded)
    module = trainable(network, done.plan, weights, activations)
    return float(evaluate(module, data.test or data.validation, data.normalization).accuracy or 0.0)


def measure(model: onnx.ModelProto, data: Dataset, method: str, bits: tuple[int, int], seed: int) -> Row:
    """One row."""
    weights, activations = bits
    training = {"epochs": EPOCHS, "batch_size": BATCH, "augment": "crop-flip", "seed": seed}
    config = QuantizeConfig(weights=weights, activations=activations, edges=EDGES, rounding="nearest", **training)  # type: ignore[arg-type]
    began = time.process_time()
    done = quantize(model, data, replace(config, rounding="learned") if method == "ptq-learned" else config)
    if not method.startswith("ptq"):
        # Validation after each epoch takes time and chooses nothing.
        few = replace(data, train=some(data.train, IMAGES, seed), validation=some(data.validation, 1, 0))
        done = train_quantized(done, few, replace(config, method=method))  # type: ignore[arg-type]
    took = time.process_time() - began
    assert done.integrity is not None
    small = replace(data, test=some(data.test or data.validation, SIMULATED, 0))
    emitted = done.model.SerializeToString()
    source = done.network.inputs[0]
    return {
        "method": method,
        "bits": name(bits),
        "seed": seed,
        "accuracy": round(onnx_accuracy(emitted, source, data, batch=None, threads=1).value, 4),
        "simulated": [round(simulated(done, small), 4), round(onnx_accuracy(emitted, source, small, batch=None, threads=1).value, 4)],
        "integers_equal": done.integrity.equal,
        "bytes": len(emitted),
        "seconds": round(took, 1),
    }


def summary(rows: list[Row], fp32: float) -> list[Row]:
    """Mean and extremes over the seeds."""
    found = []
    for bits in dict.fromkeys(row["bits"] for row in rows):
        for method in METHODS:
            values = [row["accuracy"] for row in rows if (row["bits"], row["method"]) == (bits, method)]
            if values:
                figures = {"accuracy": round(mean(values), 4), "least": min(values), "greatest": max(values), "drop": round(fp32 - mean(values), 4)}
                found.append({"bits": bits, "method": method, "seeds": len(values), **figures})
    return found


def draw(path: Path, table: list[Row], fp32: float) -> None:
    """Accuracy by method, a group a width."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    groups = list(dict.fromkeys(row["bits"] for row in table))
    for place, method in enumerate(METHODS):
        rows = [row for row in table if row["method"] == method]
        x = [groups.index(row["bits"]) + 0.16 * (place - 2) for row in rows]
        y = [100 * row["accuracy"] for row in rows]
        spread = [[100 * (row["accuracy"] - row["least"]) for row in rows], [100 * (row["greatest"] - row["accuracy"]) for row in rows]]
        axes.bar(x, y, 0.15, yerr=spread, label=method)
    axes.axhline(100 * fp32, color="black", linewidth=0.8, linestyle="--", label="float")
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylim(min(100 * row["least"] for row in table) - 2, 100 * fp32 + 1)
    axes.set_ylabel("test accuracy [%]")
    axes.set_title(f"ResNet-20 on CIFAR-10, {EPOCHS:g} epochs of {IMAGES} images")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", type=int, default=2000, help="test images to measure on")
    parser.add_argument("--output", type=Path, default=RESULTS / "qat.json")
    options = parser.parse_args()
    set_threads(1)
    onnxruntime.set_default_logger_severity(4)
    model = export_onnx(load_model(options.weights, arch="resnet20"))
    data = load(options.archive)
    data = replace(data, test=some(data.test or data.validation, options.test, 0))
    fp32 = onnx_accuracy(model.SerializeToString(), model.graph.input[0].name, data, batch=None, threads=1).value
    settings = {"images": IMAGES, "epochs": EPOCHS, "batch": BATCH, "edges": EDGES, "test_images": options.test}
    jobs: list[tuple[Hashable, Callable[[], Row]]] = [
        ((method, name(bits), seed), partial(measure, model, data, method, bits, seed))
        for seed in range(options.seeds)
        for bits in WIDTHS
        for method in options.methods
    ]
    rows = collect(
        options.output,
        1,
        settings,
        jobs,
        lambda row: (row["method"], row["bits"], row["seed"]),
        lambda rows: {"aims": AIMS, "fp32": round(fp32, 4), "summary": summary(rows, fp32)},
    )
    draw(options.output.with_suffix(".png"), summary(rows, fp32), fp32)


if __name__ == "__main__":
    main()
