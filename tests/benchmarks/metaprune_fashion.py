"""Fashion-MNIST, and narrow networks that are trained on it here: what is small enough to train many metanetworks on."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS

from compresskit.data import Dataset, load_data
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model
from compresskit.models.zoo import build
from compresskit.training import TrainConfig, train

SHAPE = (1, 28, 28)
ROUND_TO = 1  # channels: these networks have layers of eight
TEST = 2000  # of the 10,000 images of the subset; a tenth of the others is for validation


@dataclass(frozen=True)
class Trained:
    """How a network is trained: `options` are the zoo's."""

    arch: str
    options: dict[str, float | str]
    training: TrainConfig

    def said(self) -> dict[str, Any]:
        """What a result is to say of it."""
        return {"arch": self.arch, **self.options, "trained_epochs": self.training.epochs}

    def read(self, folder: Path, data: Dataset) -> ModelGraph:
        """The network in `folder`, trained and kept there if it is not yet."""
        path = folder / f"fashion_{self.arch}_{self.training.seed}.pt"
        if not path.exists():
            torch.manual_seed(self.training.seed)
            module = build(self.arch, in_channels=1, **self.options)
            train(module, data, self.training)
            path.write_bytes(save_checkpoint(graph_from_module(module.eval(), (TensorSpec("input", (None, *SHAPE)),), source=path.stem)))
        return load_model(path)


def narrow(seed: int) -> Trained:
    """A ResNet of eight layers, half as wide as usual."""
    return Trained("resnet8", {"width": 0.5, "shortcut": "B"}, TrainConfig(epochs=8, batch_size=64, lr=0.1, augment="crop-flip", seed=seed))


def load(subset: Path, folder: Path) -> Dataset:
    """The images of `subset`, in splits; `folder` keeps them as every command reads them."""
    path = folder / "fashion.npz"
    if not path.exists():
        with np.load(subset) as arrays:
            x, y = arrays["images"], arrays["labels"]
        order = np.random.default_rng(0).permutation(len(x))
        tested, learned = order[:TEST], order[TEST:]
        np.savez(path, x_train=x[learned], y_train=y[learned], x_test=x[tested], y_test=y[tested])
    return load_data(path, input_shape=SHAPE, outputs=10)


def options(name: str, described: str | None, seeds: int) -> argparse.Namespace:
    """What the command line of the benchmark `name` says: fashion, work, seeds and output."""
    parser = argparse.ArgumentParser(description=described, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fashion", type=Path)
    parser.add_argument("--work", type=Path, default=Path("."), help="folder for what is trained here")
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--output", type=Path, default=RESULTS / f"{name}.json")
    return parser.parse_args()
