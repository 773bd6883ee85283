"""A SIREN in training: the gradient of its mean squared error by all parameters, written out, in memory that is allocated once.

Autograd takes twice the time. Points are columns, and a row of ones below the inputs of each layer makes its bias a column of its weight:

    x (dims + 1, N) --[omega W, omega b]--> angle --sin--> (width + 1, N) -- ... --[W, b]--> output (channels, N)
                                              |
                                              cos: what a signal is multiplied with on its way back
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from compresskit.codec.siren import MIDDLE, Siren


class TrainedSiren:
    """A SIREN's parameters with their gradients, and the memory to find these.

    Attributes:
        hidden: all parameters of hidden layers, in one vector, times omega: a learning rate for them is omega times that of the output.
        output: those of the output layer. `gradient` leaves its findings in the `grad` of both.
    """

    def __init__(self, siren: Siren, points: int) -> None:
        """Take a copy of `siren`, for batches of so many points."""
        self._omega = siren.omega
        *hidden, output = (torch.cat([weight, bias[:, None]], dim=1) for weight, bias in zip(siren.weights, siren.biases, strict=True))
        output[:, -1] += MIDDLE
        self.hidden, self.output = torch.cat([layer.reshape(-1) for layer in hidden]) * siren.omega, output.reshape(-1)
        self.hidden.grad, self.output.grad = torch.zeros_like(self.hidden), torch.zeros_like(self.output)
        shapes = [layer.shape for layer in hidden]
        self._layers = [*_views(self.hidden, shapes), self.output.view(output.shape)]
        self._gradients = [*_views(self.hidden.grad, shapes), self.output.grad.view(output.shape)]
        self._inputs = [torch.ones(layer.shape[1], points) for layer in self._layers]
        self._slopes = [torch.empty(layer.shape[0], points) for layer in hidden]

    def gradient(self, x: Tensor, targets: Tensor) -> None:
        """Find the gradient of the mean squared error.

        Args:
            x: (dims, points) coordinates.
            targets: (channels, points) samples.
        """
        self._inputs[0][:-1] = x
        for layer, inputs, angles, outputs in zip(self._layers[:-1], self._inputs[:-1], self._slopes, self._inputs[1:], strict=True):
            torch.mm(layer, inputs, out=angles)
            # NumPy's sine of float32 takes 40 % of torch's time. It would warn of angles that are infinite; what comes of them is NaN.
            with np.errstate(invalid="ignore"):
                np.sin(angles.numpy(), out=outputs[:-1].numpy())
                np.cos(angles.numpy(), out=angles.numpy())
        signal = (self._layers[-1] @ self._inputs[-1]).sub_(targets).mul_(2 / targets.numel())
        for index in range(len(self._layers) - 1, 0, -1):
            inputs = self._inputs[index]
            torch.mm(signal, inputs.T, out=self._gradients[index])
            # Nothing needs these inputs any more.
            signal = torch.mm(self._layers[index][:, :-1].T, signal, out=inputs[:-1]).mul_(self._slopes[index - 1])
        torch.mm(signal, self._inputs[0].T, out=self._gradients[0])

    def siren(self) -> Siren:
        """A copy of what it is now."""
        factors = [*[1 / self._omega] * len(self._slopes), 1.0]
        scaled = [layer * factor for layer, factor in zip(self._layers, factors, strict=True)]
        scaled[-1][:, -1] -= MIDDLE
        weights, biases = (tuple(layer[:, part].clone() for layer in scaled) for part in (slice(-1), -1))
        return Siren(weights, biases, self._omega)


def _views(flat: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    """Parts of a vector as matrices, one after the other."""
    ends = accumulate((math.prod(shape) for shape in shapes), initial=0)
    return [flat[begin:end].view(shape) for (begin, end), shape in zip(pairwise(ends), shapes, strict=True)]
