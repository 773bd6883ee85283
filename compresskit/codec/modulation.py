"""A base network under modulations: a SIREN whose every hidden layer is shifted by a linear map of a latent vector (thesis, eq. 5.4).

    latent (L) --mapping--> shifts (hidden layers x width) --split--> sin(omega (W h + b + shift)), layer by layer

Gradients with respect to latents are written out: no graph is kept, and derivatives at one latent come for all samples at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from compresskit.codec.siren import MIDDLE, Siren, forward


@dataclass(frozen=True, eq=False)
class Modulated:
    """A base network.

    Attributes:
        siren: shared by all data.
        mapping: (hidden layers x width, latents), from a latent vector to the shifts of all layers.
    """

    siren: Siren
    mapping: Tensor

    @property
    def latents(self) -> int:
        """Length of a latent vector."""
        return self.mapping.shape[1]

    @property
    def hidden(self) -> int:
        """Number of hidden layers."""
        return len(self.siren.weights) - 1


def render(network: Modulated, x: Tensor, latents: Tensor) -> Tensor:
    """Samples (P, N, channels) of the functions that `latents` (P, L) stand for, at coordinates `x` (N, dims)."""
    shifts = F.linear(latents, network.mapping).unsqueeze(1).chunk(network.hidden, dim=-1)
    return forward(network.siren, x, shifts)


@torch.no_grad()
def errors(network: Modulated, x: Tensor, targets: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared errors of P fits, and half their gradients with respect to the latents.

    Args:
        network: the base network.
        x: (N, dims) coordinates.
        targets: (P, N, channels).
        latents: (P, L).

    Returns:
        (P,) and (P, L).
    """
    output, slopes = _trace(network, x, F.linear(latents, network.mapping))
    difference = output - targets
    count = difference[0].numel()
    by_layer = [signal.sum(dim=1) for signal in backwards(network.siren, difference / count, slopes)]
    return difference.square().sum(dim=(1, 2)) / count, torch.cat(by_layer[::-1], dim=1) @ network.mapping


@torch.no_grad()
def jacobian(network: Modulated, x: Tensor, latent: Tensor | None = None) -> Tensor:
    """Derivatives (N x channels, L) of all samples at `x` (N, dims) with respect to the latents, at `latent` (L,), or where these are zero."""
    shifts = torch.zeros(1, len(network.mapping)) if latent is None else F.linear(latent, network.mapping).unsqueeze(0)
    _, slopes = _trace(network, x, shifts)
    units = torch.eye(len(network.siren.biases[-1])).unsqueeze(1).expand(-1, len(x), -1)
    by_layer = list(backwards(network.siren, units, slopes))
    return (torch.cat(by_layer[::-1], dim=2) @ network.mapping).transpose(0, 1).flatten(0, 1)


def _trace(network: Modulated, x: Tensor, shifts: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output (P, N, channels), and each sine's derivative (P, N, width), for shifts (P, hidden layers x width)."""
    siren, slopes = network.siren, []
    *hidden, (weight, bias) = zip(siren.weights, siren.biases, strict=True)
    for (matrix, offset), shift in zip(hidden, shifts.unsqueeze(1).chunk(network.hidden, dim=-1), strict=True):
        angle = F.linear(x, matrix, offset) + shift
        angle *= siren.omega
        slopes.append(torch.cos(angle).mul_(siren.omega))
        x = angle.sin_()
    return F.linear(x, weight, bias) + MIDDLE, slopes


def backwards(siren: Siren, signal: Tensor, slopes: list[Tensor]) -> Iterator[Tensor]:
    """Carry derivatives by the output (P, N, channels) back to every layer's shift (P, N, width), the last hidden layer first."""
    for weight, slope in zip(siren.weights[:0:-1], slopes[::-1], strict=True):
        signal = (signal @ weight) * slope
        yield signal
