"""The metanetworks that ship, and those that users name."""

from __future__ import annotations

from importlib import resources

from compresskit.data.files import read_bytes
from compresskit.metaprune.network import Metanetwork, load

DEFAULT = "cifar10"
"""Trained on residual networks for CIFAR-10, by tests/benchmarks/train_metanetwork.py."""


def read_metanetwork(name: str | None) -> Metanetwork:
    """The metanetwork in the file `name`; None: the one that ships.

    Raises:
        InputError: it is missing, damaged, or reads other features than ours.
    """
    if name is not None:
        return load(read_bytes(name), name)
    file = f"{DEFAULT}.safetensors"
    return load((resources.files("compresskit.metaprune") / "weights" / file).read_bytes(), file)
