"""What training costs: a few steps of it, timed, and one more, weighed.

The steps are those of `train`: batches are drawn, augmented and normalized, the state is copied. Validation is left out.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from compresskit.data.dataset import Split
from compresskit.models.graph import Normalization
from compresskit.models.latency import Clock, clock
from compresskit.report import Training
from compresskit.training.config import TrainConfig
from compresskit.training.loop import train
from compresskit.training.precision import device_of
from compresskit.training.run import TrainingData

STEPS = 3  # that are timed; one more goes before them, in which kernels are chosen and memory is found


@dataclass(frozen=True)
class _Sample:
    """As many training samples as a measurement takes."""

    train: Split
    normalization: Normalization
    validation: Split | None = None


def training_cost(module: nn.Module, data: TrainingData, config: TrainConfig) -> Training:
    """Train a copy of `module`, on the device where it is, for a few steps; take the median of their times.

    On one thread of a CPU the time is the processor's, which other processes leave as it is.

    Raises:
        GuardError: even these steps diverged.
        InputError: no training samples, or targets that do not fit the model.
        UsageError: settings that training refuses.
    """
    device, marks = device_of(module), list[float]()
    tick = _clock(device)
    _steps(module, data, config, STEPS + 1, lambda _: marks.append(tick()))
    epoch = -(-len(data.train) // config.batch_size)
    seconds = statistics.median(after - before for before, after in itertools.pairwise(marks)) * epoch
    return Training(seconds, _peak_bytes(module, data, config, device), config.batch_size)


def _steps(module: nn.Module, data: TrainingData, config: TrainConfig, count: int, after_step: Callable[[int], None] | None = None) -> None:
    samples = min(len(data.train), count * config.batch_size)
    few = _Sample(Split(data.train.x[:samples], data.train.y[:samples]), data.normalization)
    epochs = count / -(-samples // config.batch_size)
    train(copy.deepcopy(module), few, replace(config, epochs=epochs, checkpoint=None, resume=False), after_step=after_step)


def _clock(device: torch.device) -> Clock:
    if device.type == "cpu":
        return clock(torch.get_num_threads())
    whole = clock(0)

    def tick() -> float:
        torch.cuda.synchronize(device)
        return whole()

    return tick


def _peak_bytes(module: nn.Module, data: TrainingData, config: TrainConfig, device: torch.device) -> int:
    """The most that two steps, the second of which meets the optimizer's state, hold at once."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        _steps(module, data, config, 2)
        return torch.cuda.max_memory_allocated(device)
    with Alive() as alive:
        _steps(module, data, config, 2)
    return alive.peak


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside, while they live; `peak` is the most at once. Workspaces of kernels are not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        results = function(*args, **(kwargs or {}))
        for tensor in tree_iter(results):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self._meet(tensor.untyped_storage())
        return results

    def _meet(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:  # a view of, or an update in, what was met before
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._part, key, size).atexit = False

    def _part(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
