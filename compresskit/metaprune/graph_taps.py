"""What a tap of a kernel is, whatever the kernel's size: its place, and what it is for."""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.metaprune.graph_draft import Role
from compresskit.metaprune.layout import TAP_FEATURES

_AXES = 3
_ROLES = (Role.QUERY, Role.KEY, Role.VALUE)


def taps(kernel: tuple[int, ...], role: Role | None) -> Tensor:
    """(taps, TAP_FEATURES) for a kernel of any size, its last axis last.

    >>> taps((3,), None)[:, 2]
    tensor([-1.,  0.,  1.])
    """
    sizes = (1,) * (_AXES - len(kernel)) + kernel
    places = torch.meshgrid(*(_places(size) for size in sizes), indexing="ij")
    count = places[0].numel()
    inverse = torch.tensor([1 / size for size in sizes]).expand(count, _AXES)
    flags = torch.tensor([float(role is one) for one in _ROLES]).expand(count, len(_ROLES))
    described = torch.cat([torch.stack([place.reshape(-1) for place in places], dim=1), inverse, flags], dim=1)
    assert described.shape[1] == TAP_FEATURES
    return described


def _places(size: int) -> Tensor:
    return torch.linspace(-1, 1, size) if size > 1 else torch.zeros(1)
