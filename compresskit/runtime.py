"""What a result depends on beside its inputs: device, threads, seed and the versions of the libraries.

Torch is imported inside the functions, so that `--help` and `--version` stay quick.
"""

from __future__ import annotations

import os
import platform
import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING

from compresskit.errors import UsageError

if TYPE_CHECKING:
    import torch

SEED_LIMIT = 2**32
"""Seeds are below this: what NumPy's global generator takes."""

_LIBRARIES = ("compresskit", "torch", "onnx", "onnxruntime", "numpy")


def select_device(name: str | None) -> torch.device:
    """Find the device to compute on.

    Args:
        name: as torch spells it ("cpu", "cuda", "cuda:1"); None or "auto" takes the GPU where there is one. Without an
            index, each process that `torchrun` starts takes the GPU of its own local rank.

    Raises:
        UsageError: there is no such device here.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = name if name not in (None, "auto") else "cuda" if gpus else "cpu"
    try:
        device = torch.device(str(wanted))
    except RuntimeError:
        raise UsageError(f"unknown device {wanted!r}: use auto, cpu, cuda or cuda:N") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise UsageError(f"device {wanted!r} is not supported: use auto, cpu, cuda or cuda:N")
    index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    if index >= gpus:
        raise UsageError(f"there is no device {wanted!r}: this machine has {gpus} CUDA devices; use --device cpu or auto")
    return torch.device("cuda", index)


def set_threads(n: int) -> int:
    """Compute with `n` threads (0: as many as the CPUs that fall to this process of those `torchrun` started here); return the number in force.

    Raises:
        UsageError: `n` is negative.
    """
    import torch

    if n < 0:
        raise UsageError(f"{n} threads are too few: give a positive number, or 0 for all")
    torch.set_num_threads(n or max(1, available_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return torch.get_num_threads()


def available_cpus() -> int:
    """The number of CPUs that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seed_everything(seed: int | None) -> int:
    """Seed the generators of Python, NumPy and torch; draw the seed where it is None; return it, for the report.

    Raises:
        UsageError: the seed is not in [0, 2**32).
    """
    import numpy as np
    import torch

    if seed is None:
        seed = secrets.randbelow(SEED_LIMIT)
    if not 0 <= seed < SEED_LIMIT:
        raise UsageError(f"seed {seed} is out of range: give one from 0 to {SEED_LIMIT - 1}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return seed


def versions() -> dict[str, str]:
    """Versions of Python, of us and of the libraries that results depend on; nothing is imported for it."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _LIBRARIES}}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


class Clock:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - began, 3)
