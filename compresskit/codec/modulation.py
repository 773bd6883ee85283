"""A base network under modulations: a SIREN of which a part differs from patch to patch, by a linear map of the patch's latent vector.

    latent (L) --mapping--> the output layer (channels x (width + 1)): (W + weights) h(x) + (b + bias), h being the same for all patches
    latent (L) --mapping--> shifts (hidden layers x width) --split--> sin(omega (W h + b + shift)), layer by layer (thesis, eq. 5.4)

Shifts are what the thesis modulates, and what base networks of the first releases do. Gradients with respect to latents are written out: no
graph is kept, and derivatives at one latent come for all samples at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from compresskit.codec.exact import OUTPUT
from compresskit.codec.siren import MIDDLE, Siren, activations, forward


@dataclass(frozen=True, eq=False)
class Modulated:
    """A base network.

    Attributes:
        siren: shared by all data.
        mapping: (modulations, latents), from a latent vector to what is added for it: to the output layer, row by row, weights and then bias;
            or to the biases of all hidden layers.
        part: which: OUTPUT or SHIFTS.
    """

    siren: Siren
    mapping: Tensor
    part: str = OUTPUT

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
    modulations = F.linear(latents, network.mapping)
    if network.part == OUTPUT:
        return forward(network.siren, x) + _outputs(features(network.siren, x), modulations)
    return forward(network.siren, x, modulations.unsqueeze(1).chunk(network.hidden, dim=-1))


def features(siren: Siren, x: Tensor) -> Tensor:
    """What an output layer takes at `x` (N, dims): (N, width + 1), the last of them 1, for the bias."""
    return F.pad(activations(siren, x), (0, 1), value=1.0)


def _outputs(known: Tensor, modulations: Tensor) -> Tensor:
    """What output layers (P, channels x (width + 1)) make of features (N, width + 1): (P, N, channels)."""
    layers = modulations.unflatten(1, (-1, known.shape[1]))
    return (known @ layers.flatten(0, 1).T).unflatten(1, layers.shape[:2]).transpose(0, 1)


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
    modulations, count = F.linear(latents, network.mapping), targets[0].numel()
    if network.part == OUTPUT:
        known = features(network.siren, x)
        difference = forward(network.siren, x) + _outputs(known, modulations) - targets
        gradient = (difference / count).transpose(1, 2).flatten(0, 1) @ known
        return difference.square().sum(dim=(1, 2)) / count, gradient.view(len(targets), -1) @ network.mapping
    output, slopes = _trace(network, x, modulations)
    difference = output - targets
    by_layer = [signal.sum(dim=1) for signal in _backwards(network.siren, difference / count, slopes)]
    return difference.square().sum(dim=(1, 2)) / count, torch.cat(by_layer[::-1], dim=1) @ network.mapping


@torch.no_grad()
def jacobian(network: Modulated, x: Tensor, latent: Tensor | None = None) -> Tensor:
    """Derivatives (N x channels, L) of all samples at `x` (N, dims) with respect to the latents, at `latent` (L,), or where these are zero."""
    if network.part == OUTPUT:
        known = features(network.siren, x)
        return torch.einsum("nw,cwl->ncl", known, network.mapping.unflatten(0, (-1, known.shape[1]))).flatten(0, 1)
    shifts = torch.zeros(1, len(network.mapping)) if latent is None else F.linear(latent, network.mapping).unsqueeze(0)
    _, slopes = _trace(network, x, shifts)
    units = torch.eye(len(network.siren.biases[-1])).unsqueeze(1).expand(-1, len(x), -1)
    by_layer = list(_backwards(network.siren, units, slopes))
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


def _backwards(siren: Siren, signal: Tensor, slopes: list[Tensor]) -> Iterator[Tensor]:
    """Carry derivatives by the output (P, N, channels) back to every layer's shift (P, N, width), the last hidden layer first."""
    for weight, slope in zip(siren.weights[:0:-1], slopes[::-1], strict=True):
        signal = (signal @ weight) * slope
        yield signal
