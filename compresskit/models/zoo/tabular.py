"""Networks for rows of numbers, as compared by Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data" (2021).

`in_channels` counts the columns, `classes` the outputs: 1 for one number.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import named

_FAMILY = "Tables: MLP, SNN, ResNet, DCN V2 (Gorishniy et al. 2021)"
_COLUMNS = (8,)


@architecture("table_mlp", _FAMILY, Naming(stem="linear1.weight", head="head.weight", unit="linear1.weight"), input_shape=_COLUMNS)
def table_mlp(*, classes: int = 1, in_channels: int = 8, width: float = 1.0) -> nn.Module:
    """Three hidden layers of 256 units and ReLUs."""
    return _deep("linear", nn.ReLU, in_channels, scaled(256, width), classes)


@architecture("snn", _FAMILY, Naming(stem="selu1.weight", head="head.weight", unit="selu1.weight"), input_shape=_COLUMNS)
def snn(*, classes: int = 1, in_channels: int = 8, width: float = 1.0) -> nn.Module:
    """The same with SELUs and weights drawn for them, which keep activations standardized (Klambauer et al. 2017)."""
    network = _deep("selu", nn.SELU, in_channels, scaled(256, width), classes)
    for layer in (module for module in network.modules() if isinstance(module, nn.Linear)):
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        nn.init.zeros_(layer.bias)
    return network


@architecture("table_resnet", _FAMILY, Naming(stem="first.weight", head="head.weight", unit="first.weight"), input_shape=_COLUMNS)
def table_resnet(*, classes: int = 1, in_channels: int = 8, width: float = 1.0) -> nn.Module:
    """Four residual blocks: batch norm, 256 units, ReLU, back to 128."""
    return _Residual(in_channels, scaled(128, width), classes)


@architecture("dcn_v2", _FAMILY, Naming(stem="crosses.0.weight", head="head.weight", unit="deep.0.weight"), input_shape=_COLUMNS)
def dcn_v2(*, classes: int = 1, in_channels: int = 8, width: float = 1.0) -> nn.Module:
    """Two layers of products of columns beside two of 256 units (Wang et al. 2021, "DCN V2", the parallel form)."""
    return _Crossed(in_channels, scaled(256, width), classes)


def _deep(layer: str, activation: type[nn.Module], columns: int, hidden: int, outputs: int) -> nn.Module:
    """Three layers called `layer` and their number, each with an activation behind it, and a head."""
    parts: dict[str, nn.Module] = {}
    for number, inputs in enumerate((columns, hidden, hidden), 1):
        parts |= {f"{layer}{number}": nn.Linear(inputs, hidden), f"activation{number}": activation()}
    return named(**parts, head=nn.Linear(hidden, outputs))


class _Residual(nn.Module):
    def __init__(self, columns: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(columns, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)) for _ in range(4)
        )
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, columns) -> (N, outputs)."""
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(torch.relu(self.norm(x)))


class _Crossed(nn.Module):
    def __init__(self, columns: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(nn.Linear(columns, columns) for _ in range(2))
        self.deep = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise((columns, hidden, hidden)))
        self.head = nn.Linear(columns + hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, columns) -> (N, outputs)."""
        crossed, deep = x, x
        for cross in self.crosses:
            crossed = x * cross(crossed) + crossed
        for layer in self.deep:
            deep = torch.relu(layer(deep))
        return self.head(torch.cat([crossed, deep], 1))
