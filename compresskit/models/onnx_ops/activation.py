"""Activation functions, softmax and dropout."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from compresskit.models.onnx_ops.values import Node, Value, axis_of, is_host, op, operand, scalar, tensor

_PLAIN: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "HardSwish": F.hardswish,
    "Mish": F.mish,
}


def _plain(function: Callable[[Tensor], Tensor], node: Node, x: Value) -> Value:
    return function(tensor(x))


for _name, _function in _PLAIN.items():
    op(_name)(functools.partial(_plain, _function))


@op("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@op("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.get("alpha", 1.0))


@op("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    return F.celu(x, node.get("alpha", 1.0))


@op("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.6732632), node.get("gamma", 1.0507009)
    if math.isclose(alpha, 1.6732632, rel_tol=1e-6) and math.isclose(gamma, 1.0507009, rel_tol=1e-6):
        return F.selu(x)
    return gamma * F.elu(x, alpha)


@op("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return F.threshold(x, node.get("alpha", 1.0), 0.0)


@op("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(alpha * x + beta, 0, 1)


@op("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.get("approximate", "none"))


@op("PRelu")
def prelu(node: Node, x: Tensor, slope: Value) -> Tensor:
    """`torch.prelu` for one slope a channel; other slopes broadcast."""
    if isinstance(slope, Tensor) and slope.ndim == 1 and slope.shape[0] == (x.shape[1] if x.ndim > 1 else 1):
        return F.prelu(x, slope)
    return torch.where(x < 0, x * operand(slope, x), x)


@op("Clip")
def clip(node: Node, x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    """Bounds are attributes below opset 11 and inputs from there."""
    if node.opset < 11:
        return torch.clamp(tensor(x), node.get("min", -3.4028234663852886e38), node.get("max", 3.4028234663852886e38))
    if low is None and high is None:
        return x
    if is_host(low, high):
        bounds = [None if bound is None else scalar(bound, "bound") for bound in (low, high)]
        return torch.clamp(tensor(x), *bounds)
    return torch.clamp(tensor(x), *(None if bound is None else tensor(bound) for bound in (low, high)))


def _softmax(function: Callable[..., Tensor], node: Node, x: Tensor) -> Tensor:
    """Along one axis from opset 13; below, over that axis and all behind it at once."""
    if node.opset >= 13:
        return function(x, dim=axis_of(node.get("axis", -1), x.ndim))
    axis = axis_of(node.get("axis", 1), x.ndim)
    if axis == x.ndim - 1:
        return function(x, dim=axis)
    return function(x.flatten(axis), dim=-1).reshape(x.shape)


op("Softmax")(functools.partial(_softmax, F.softmax))
op("LogSoftmax")(functools.partial(_softmax, F.log_softmax))


@op("Dropout")
def dropout(node: Node, x: Tensor, ratio: Value | None = None, training: Value | None = None) -> Tensor:
    """Nothing, as in inference.

    Raises:
        ValueError: the file asks for training behaviour.
    """
    if training is not None and scalar(training, "training_mode"):
        raise ValueError("training_mode is on: export the model for inference")
    return x
