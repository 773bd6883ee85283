"""CIFAR-10 as the benchmarks take it, and networks for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from compresskit.data import Dataset, load_data
from compresskit.data.dataset import Split
from compresskit.models.graph import ModelGraph, Normalization, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build_for_state

SHAPE = (3, 32, 32)
NORMALIZATION = Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def load(path: Path) -> Dataset:
    """All images, as the published networks see them."""
    return load_data(path, input_shape=SHAPE, outputs=10, normalization=NORMALIZATION)


def part(data: Dataset, *, train: int | None = None, validation: int | None = None, test: int | None = None) -> Dataset:
    """The first so many images of each split; all where no number is given."""
    tested = data.test and _first(data.test, test)
    return replace(data, train=_first(data.train, train), validation=_first(data.validation, validation), test=tested)


def _first(split: Split, count: int | None) -> Split:
    return Split(split.x[:count], split.y[:count])


def published(weights: Path, arch: str = "resnet20") -> ModelGraph:
    """A network of the zoo with the weights that others published."""
    return lifted(build_for_state(arch, load_file(weights)).eval(), arch)


def lifted(module: nn.Module, name: str) -> ModelGraph:
    return graph_from_module(module, (TensorSpec("input", (None, *SHAPE)),), source=name)
