"""Every family of networks for images in the zoo, pruned before training by every saliency of channels: `python tests/benchmarks/zoo_saliencies.py`.

Half of the MACs are to stay. Networks are narrow and images are noise: what is seen is whether groups, masks, meta-gradients and cut fit each
architecture, and that the result trains, by one step. U-Net has a class for each pixel; its mean IOU after a short training on drawn cells, for
some of the methods, stands beside (the thesis's tables A.6 and A.7 have microscopes' images, which are not here).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, Row, collect

from compresskit.data import Dataset
from compresskit.data.dataset import Split
from compresskit.errors import CompresskitError
from compresskit.models.graph import ModelGraph, Normalization, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.runtime import seed_everything, set_threads
from compresskit.training import TrainConfig, evaluate, train

CLASSES, SIZE, WIDTH = 4, 32, 0.25
TARGET = Target("flops", 0.5)
METHODS = ("random", "magnitude", "3sp", "prospr", "grasp", "synflow", "force", "iter-snip")  # from one look to a hundred
NETWORKS = (
    *("vgg19", "resnet18", "googlenet", "densenet121", "resnext29_2x64d", "mobilenet", "mobilenet_v2", "dpn92", "senet18"),
    *("shufflenet_v2_x1_0", "regnetx_200mf", "simple_dla", "mobilenet_v3_small", "efficientnet_b0", "resnet20", "vit", "unet"),
)  # one a family
MAPS = "unet"
CELLS = {"images": 400, "epochs": 6.0, "lr": 0.05, "methods": ("not pruned", "random", "3sp", "prospr")}


def network(name: str, classes: int, channels: int = 3) -> ModelGraph:
    seed_everything(0)
    module = build(name, classes=classes, in_channels=channels, width=WIDTH)
    return graph_from_module(module, (TensorSpec("input", (None, channels, SIZE, SIZE)),), source=name, arch=name)


def noise(name: str) -> Dataset:
    """Images of noise, with a class each, or a class a pixel."""
    rng = np.random.default_rng(0)
    shape = (SIZE, SIZE) if name == MAPS else ()

    def split(count: int) -> Split:
        classes = np.resize(np.arange(CLASSES), (count, *shape)) if shape else np.resize(np.arange(CLASSES), count)
        return Split(rng.integers(0, 256, (count, 3, SIZE, SIZE), dtype=np.uint8), classes)

    return Dataset(split(64), split(16), None, Normalization((0.5,) * 3, (0.25,) * 3), "noise", CLASSES)


def cells(count: int, rng: np.random.Generator) -> Split:
    """Gray images of up to five bright ellipses, some of them with dark cores, under noise; background, cell or core for each pixel."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    x, y = np.full((count, 1, SIZE, SIZE), 90.0), np.zeros((count, SIZE, SIZE), dtype=np.int64)
    for image, labels in zip(x[:, 0], y, strict=True):
        for _ in range(rng.integers(1, 6)):
            (up, left), (height, width) = rng.uniform(4, SIZE - 4, 2), rng.uniform(3, 7, 2)
            distance = ((rows - up) / height) ** 2 + ((columns - left) / width) ** 2
            image[distance < 1] = rng.uniform(120, 180)
            labels[distance < 1] = 1
            if rng.random() < 0.6:
                image[distance < 0.25] = rng.uniform(60, 100)
                labels[distance < 0.25] = 2
    noisy = x + rng.normal(0, 25, x.shape)
    return Split(noisy.clip(0, 255).astype(np.uint8), y)


def measure(name: str, method: str) -> Row:
    """Prune one network by one method, and make one step of training."""
    graph = network(name, CLASSES)
    config = PruneConfig(target=TARGET, method=method, init=True, epochs=0.01, batch_size=16, round_to=1)  # type: ignore[arg-type]
    began = time.process_time()
    try:
        result = prune(graph, noise(name), config)
        found = {"outcome": "met" if result.met else "near", "kept_macs": round(result.reached, 4), "notes": list(result.notes)}
    except CompresskitError as error:
        found = {"outcome": "refuses", "reason": str(error)}
    return {"network": name, "method": method, **found, "cpu_seconds": round(time.process_time() - began, 1)}


def segment(method: str) -> Row:
    """Mean IOU of U-Net on drawn cells, pruned before training."""
    rng = np.random.default_rng(1)
    data = Dataset(cells(int(CELLS["images"]), rng), cells(50, rng), cells(200, rng), Normalization((0.45,), (0.2,)), "drawn", 3)
    graph = network(MAPS, 3, channels=1)
    settings: dict[str, Any] = {"epochs": CELLS["epochs"], "batch_size": 16}
    if method == "not pruned":
        train(graph.module, data, TrainConfig(lr=CELLS["lr"], **settings))
        smaller, kept = graph, 1.0
    else:
        config = PruneConfig(target=TARGET, method=method, init=True, learning_rate=CELLS["lr"], round_to=1, **settings)  # type: ignore[arg-type]
        result = prune(graph, data, config)
        smaller, kept = result.graph, result.reached
    assert data.test is not None
    found = evaluate(smaller.module, data.test, data.normalization)
    return {"network": "unet on cells", "method": method, "kept_macs": round(kept, 4), "mean_iou": round(found.iou or 0.0, 4)}


def summary(rows: list[Row]) -> dict[str, Any]:
    """How many networks each method cut to the target, came near, or refused; what was not met."""
    judged = [row for row in rows if "outcome" in row]
    counts = {
        method: {outcome: sum(row["method"] == method and row["outcome"] == outcome for row in judged) for outcome in ("met", "near", "refuses")}
        for method in dict.fromkeys(row["method"] for row in judged)
    }
    return {"summary": {"counts": counts, "others": [row for row in judged if row["outcome"] != "met"]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "zoo_saliencies.json")
    options = parser.parse_args()
    threads = set_threads(options.threads)
    common = {"classes": CLASSES, "image": SIZE, "width": WIDTH, "kept": TARGET.value, "cells": CELLS}
    jobs: list[tuple[tuple[str, str], Callable[[], Row]]] = [
        ((name, method), partial(measure, name, method)) for method in options.methods for name in options.networks
    ]
    jobs += [(("unet on cells", str(method)), partial(segment, str(method))) for method in CELLS["methods"]]  # type: ignore[union-attr]
    collect(options.output, threads, common, jobs, lambda row: (row["network"], row["method"]), summary)


if __name__ == "__main__":
    main()
