"""A trainable network that remembers which activations passed, and what training it under a penalty minimises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compresskit.quantization.network import Network
from compresskit.quantization.plan import Plan
from compresskit.quantization.qat.network import TrainableNetwork, trainable
from compresskit.quantization.robust.penalties import Pass, Penalty
from compresskit.training.objectives import Objective, loss, predict

SHARE = 4
"""The penalty is that of the first of so many parts of a batch. Samples come in random order, so its mean is the same; a step with double
backward takes 3.8 times as long as a plain one on the whole batch, 1.7 times as long on a quarter (ResNet-20, 128 images, one thread)."""


class Watch(nn.Module):
    """Lets tensors through and remembers them."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passed.append(x)
        return x


class Watched(nn.Module):
    """A network, and what passes through it.

    Attributes:
        network: folded, as it is quantized; trained in place.
    """

    def __init__(self, network: Network, plan: Plan, *, input_shape: tuple[int, ...] | None = None, source: str = "the model") -> None:
        super().__init__()
        watches = {members[0]: Watch() for members in plan.sets}
        self.network: TrainableNetwork = trainable(network, plan, activations=watches, input_shape=input_shape, source=source)
        self._watches = list(watches.values())
        self._weights = list(dict.fromkeys(layer.weight for layer in plan.layers))

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        try:
            return self.network(*inputs)
        finally:
            self._forget()

    def watch(self, x: Tensor, y: Tensor, *, label_smoothing: float = 0.0) -> Pass:
        """One pass over inputs (N, ...) and targets, with what a penalty looks at.

        Raises:
            UsageError: the network has several outputs.
        """
        try:
            value = loss(predict(self.network, x), y, label_smoothing=label_smoothing)
            seen = {id(tensor): tensor for watch in self._watches for tensor in watch.passed if tensor.requires_grad}
        finally:
            self._forget()
        return Pass(value, self.weights(), tuple(seen.values()))

    def weights(self) -> tuple[Tensor, ...]:
        """Those of the layers, each once."""
        return tuple(self.network.parameter(name) for name in self._weights)

    def trained(self) -> Network:
        """The network with the weights and biases that it has now."""
        stored = {name for layer in self.network.plan.layers for name in (layer.weight, layer.bias) if name is not None}
        learned = {name: self.network.parameter(name).detach().cpu().numpy().copy() for name in stored}
        return self.network.network.edited(self.network.network.nodes, learned)

    def _forget(self) -> None:
        for watch in self._watches:
            watch.passed.clear()


def regularized(penalty: Penalty, strength: float, *, label_smoothing: float = 0.0) -> Objective:
    """The loss and `strength` times the penalty (the thesis, equation 4.3), for a network that is `Watched`."""

    def objective(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        assert isinstance(module, Watched)
        count = -(-len(x) // SHARE)
        with torch.autocast(x.device.type, enabled=False):  # differences of gradients need all the digits
            first = module.watch(x[:count], y[:count], label_smoothing=label_smoothing)
            added = strength * penalty(first)
        if count == len(x):
            return first.loss + added
        rest = loss(predict(module, x[count:]), y[count:], label_smoothing=label_smoothing)
        return (count * first.loss + (len(x) - count) * rest) / len(x) + added

    return objective
