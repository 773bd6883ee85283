"""What the benchmarks of pruning before training share: VGG-19, part of CIFAR-10, and rows that are kept as they come.

Everything is narrower, smaller and shorter than in the thesis, for all methods alike, so that two cores run it. The network is that of its
appendix A.4.1, with one linear layer after the average. Appendix A.1's has three, without norms between them; cut before training, their signals
fade, and in the few steps that are made here no method's network gets far from where it began (30% for random and for 3SP alike).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from common import RESULTS, heading, write
from torch import nn

from compresskit.data import Dataset, load_data
from compresskit.data.dataset import Split
from compresskit.models.graph import ModelGraph, Normalization, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build

SHAPE = (3, 32, 32)
NORMALIZATION = Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
WIDTH = 0.1875
IMAGES = 6000
VALIDATION = 500  # images: nothing is chosen by them, and measuring takes time

Row = dict[str, Any]
Key = TypeVar("Key", bound=Hashable)


def fresh_vgg19(seed: int) -> ModelGraph:
    """The network with weights drawn from `seed`, as torch's layers draw them."""
    torch.manual_seed(seed)
    return lifted(build("vgg19", width=WIDTH), "vgg19")


def lifted(module: nn.Module, name: str) -> ModelGraph:
    return graph_from_module(module, (TensorSpec("input", (None, *SHAPE)),), source=name)


def cifar(path: Path, images: int = IMAGES) -> Dataset:
    """The first training images, the first validation images, and all test images."""
    whole = load_data(path, input_shape=SHAPE, outputs=10, normalization=NORMALIZATION)
    return Dataset(
        _first(whole.train, images),
        _first(whole.validation, VALIDATION),
        whole.test,
        whole.normalization,
        whole.normalization_source,
        whole.classes,
    )


def _first(split: Split, count: int) -> Split:
    return Split(split.x[:count], split.y[:count])


def parser(description: str | None, output: str) -> argparse.ArgumentParser:
    """The options of all these scripts."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path, help="CIFAR-10 as .npz")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--output", type=Path, default=RESULTS / output)
    return options


def collect(
    output: Path,
    threads: int,
    common: Mapping[str, Any],
    jobs: Iterable[tuple[Key, Callable[[], Row]]],
    key: Callable[[Row], Key],
    summary: Callable[[list[Row]], Mapping[str, Any]],
) -> list[Row]:
    """Run the jobs whose rows are not in `output` yet, writing after each; return all rows.

    Args:
        common: what is the same for all rows; a file with other settings is left alone.
        key: of a row: which job made it.
        summary: of all rows, for the file.
    """
    settings = json.loads(json.dumps(common))
    old = json.loads(output.read_text()) if output.exists() else {"common": settings, "rows": []}
    if old["common"] != settings:
        sys.exit(f"{output} holds runs with other settings: remove it, or give another --output")
    rows: list[Row] = old["rows"]
    done = {key(row) for row in rows}
    for name, job in jobs:
        if name in done:
            continue
        rows.append(job())
        print(rows[-1], file=sys.stderr, flush=True)
        write(output, {**heading(threads), "common": settings, **summary(rows), "rows": rows})
    return rows
