"""What the benchmarks of pruning before training share: VGG-19, part of CIFAR-10, and options.

Everything is narrower, smaller and shorter than in the thesis, for all methods alike, so that two cores run it. The network is that of its
appendix A.4.1, with one linear layer after the average. Appendix A.1's has three, without norms between them; cut before training, their signals
fade, and in the few steps that are made here no method's network gets far from where it began (30% for random and for 3SP alike).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from cifar import lifted, load, part
from common import RESULTS

from compresskit.data import Dataset
from compresskit.models.graph import ModelGraph
from compresskit.models.zoo import build

WIDTH = 0.1875
IMAGES = 6000
VALIDATION = 500  # images: nothing is chosen by them, and measuring takes time


def fresh_vgg19(seed: int) -> ModelGraph:
    """The network with weights drawn from `seed`, as torch's layers draw them."""
    torch.manual_seed(seed)
    return lifted(build("vgg19", width=WIDTH), "vgg19")


def some(path: Path, images: int = IMAGES) -> Dataset:
    """The first training images, the first validation images, and all test images."""
    return part(load(path), train=images, validation=VALIDATION)


def parser(description: str | None, output: str) -> argparse.ArgumentParser:
    """The options of all these scripts."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path, help="CIFAR-10 as .npz")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--output", type=Path, default=RESULTS / output)
    return options
