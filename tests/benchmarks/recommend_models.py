"""Train the models whose compression `recommend` learns from: twelve architectures, narrow enough that two cores train them in an hour or two.

    python tests/benchmarks/recommend_models.py CIFAR10.npz FOLDER [--epochs 8] [--only resnet18 vgg19]

Each model goes to FOLDER as a checkpoint that every command reads. Models that are there are left alone; a training that was stopped goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from compresskit.data import Dataset, load_data
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.training import TrainConfig, checkpoints, evaluate, train

WIDTHS = {
    "vgg19": 0.125,
    "resnet18": 0.125,
    "googlenet": 0.0625,
    "densenet121": 0.125,
    "resnext29_2x64d": 0.0625,
    "mobilenet": 0.25,
    "mobilenet_v2": 0.25,
    "senet18": 0.125,
    "shufflenet_v2_x0_5": 0.5,
    "regnetx_200mf": 0.25,
    "simple_dla": 0.125,
    "mobilenet_v3_small": 0.5,
}
"""Eleven of the twelve architectures of Meta Compression, and a small one for DPN92, of which a CPU does not get through many trials."""


def make(name: str, data: Dataset, folder: Path, epochs: float) -> float:
    """Train one model; its test accuracy."""
    torch.manual_seed(0)
    graph = graph_from_module(build(name, width=WIDTHS[name]), [TensorSpec("input", (None, 3, 32, 32))], source=name, arch=name)
    kept = folder / f"{name}.checkpoint"
    config = TrainConfig(epochs=epochs, lr=0.1, augment="crop-flip", checkpoint=kept, checkpoint_minutes=2.0, resume=True)
    train(graph.module, data, config)
    finished = replace(graph, normalization=data.normalization)
    (folder / f"{name}.pt").write_bytes(save_checkpoint(finished))
    checkpoints.discard(kept)
    assert data.test is not None
    found = evaluate(graph.module, data.test, data.normalization).accuracy
    assert found is not None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=float, default=8.0)
    parser.add_argument("--only", nargs="*", choices=tuple(WIDTHS), default=tuple(WIDTHS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data = load_data(options.data, input_shape=(3, 32, 32), outputs=10)
    for name in options.only:
        if not (options.folder / f"{name}.pt").exists():
            print(f"{name}: {make(name, data, options.folder, options.epochs):.4f}", flush=True)


if __name__ == "__main__":
    main()
