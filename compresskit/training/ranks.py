"""Training in several processes that `torchrun` started: each computes its share of every batch, and all take the same step."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process among `size` equal ones. A single process is the case of one, in which nothing is exchanged.

    Every rank iterates over the same batches and keeps its share, so that the result depends on the number of ranks only by rounding
    (and by batch norms, whose statistics are those of a share, and in the end those of rank 0).
    """

    rank: int = 0
    size: int = 1

    def share(self, batch: Tensor) -> Tensor:
        """Every `size`-th sample of (N, ...), beginning with number `rank`."""
        return batch[self.rank :: self.size]

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Give every rank the floating-point tensors of rank 0, in one exchange."""
        self._exchange([t for t in tensors if t.is_floating_point()], lambda flat: dist.broadcast(flat, src=0))

    def average(self, tensors: Sequence[Tensor], weight: float) -> None:
        """Replace each floating-point tensor by the sum over the ranks of `weight` times it, in one exchange."""
        self._exchange(tensors, lambda flat: dist.all_reduce(flat.mul_(weight)))

    def _exchange(self, tensors: Sequence[Tensor], collective: Callable[[Tensor], object]) -> None:
        if self.size == 1 or not tensors:
            return
        with torch.no_grad():
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            collective(flat)
            for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))


def leads() -> bool:
    """Whether this process is the first of those that met in `join`, or is alone: the one that writes and reports."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def join(device: torch.device) -> Ranks:
    """Meet the other processes of this run, as the environment that `torchrun` sets describes them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return Ranks(dist.get_rank(), dist.get_world_size())
