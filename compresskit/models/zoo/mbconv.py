"""The inverted bottleneck with squeeze-and-excitation, of which MobileNetV3 and EfficientNet are made."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from compresskit.models.zoo.layers import Activation, SqueezeExcitation, activated, conv, depthwise, normed


@dataclass(frozen=True)
class Bottleneck:
    """How one is built.

    Attributes:
        inputs, outputs: channels that come in and go out.
        hidden: channels of the depthwise convolution; where they are the inputs, nothing expands to them.
        kernel, stride: of the depthwise convolution.
        squeezed: channels of the squeeze-and-excitation; 0: there is none.
        activation: after the first two convolutions.
        squeeze_activation, gate: inside the squeeze-and-excitation.
    """

    inputs: int
    hidden: int
    outputs: int
    kernel: int
    stride: int
    squeezed: int
    activation: Activation
    squeeze_activation: Activation
    gate: Activation


class InvertedBottleneck(nn.Module):
    """1x1 convolution to more channels, depthwise, excitation, 1x1 back without activation; a shortcut where the shape stays."""

    def __init__(self, plan: Bottleneck) -> None:
        super().__init__()
        expand = [activated(conv(plan.inputs, plan.hidden, 1), plan.activation)] if plan.hidden != plan.inputs else []
        excite = [SqueezeExcitation(plan.hidden, plan.squeezed, activation=plan.squeeze_activation, gate=plan.gate)] if plan.squeezed else []
        self.body = nn.Sequential(
            *expand,
            activated(depthwise(plan.hidden, kernel=plan.kernel, stride=plan.stride), plan.activation),
            *excite,
            normed(conv(plan.hidden, plan.outputs, 1)),
        )
        self.residual = plan.stride == 1 and plan.inputs == plan.outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride), rounded up."""
        return x + self.body(x) if self.residual else self.body(x)
