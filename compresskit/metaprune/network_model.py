"""The graph network that reads a network's graph and says how to change it (appendix B.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, isqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from compresskit.errors import UsageError
from compresskit.metaprune.layout import FEATURES, TAP_FEATURES, Layout
from compresskit.metaprune.pna import MessagePassing, mlp
from compresskit.metaprune.pna_blocks import update_in_place
from compresskit.metaprune.pna_wiring import Wiring, wiring

LAYERS, WIDTH = 256, 1024
"""At most: what asks for more is damaged, or made to exhaust memory."""


@dataclass(frozen=True)
class MetanetworkConfig:
    """What a metanetwork is made of.

    Attributes:
        layers: rounds of message passing: how many layers away a parameter sees.
        width: hidden dimensions of nodes and edges.
        node_scale, edge_scale: of what is added to nodes and edges (alpha and beta of equations 22 and 23).
        node_features, tap_features: what it reads of each node, and of each tap of a kernel.
    """

    layers: int = 8
    width: int = 64
    node_scale: float = 0.01
    edge_scale: float = 0.01
    node_features: int = len(FEATURES)
    tap_features: int = TAP_FEATURES

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            UsageError: one is out of range.
        """
        for name, most in (("layers", LAYERS), ("width", WIDTH)):
            if not 1 <= getattr(self, name) <= most:
                raise UsageError(f"a metanetwork of {getattr(self, name)} {name}: expected 1 to {most}")
        if not (isfinite(self.node_scale) and isfinite(self.edge_scale)):
            raise UsageError(f"a metanetwork that scales by {self.node_scale} and {self.edge_scale}: expected finite numbers")


class Metanetwork(nn.Module):
    """Encoders, message passing, and decoders whose results are added, scaled down, to what was read.

    Kernels of any size share one encoder: the weights that its first layer gives a tap are a learned function of the tap's place in the kernel,
    and so are those of the decoder's last layer. What it does to 3x3 kernels it can do, so, to sizes that it never met.
    """

    def __init__(self, config: MetanetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.node_encoder = mlp(config.node_features, width, width)
        self.node_decoder = mlp(width, width, config.node_features)
        self.tap_encoder = mlp(config.tap_features, width, width)
        self.tap_decoder = mlp(config.tap_features, width, width + 1)
        self.edge_encoder, self.edge_decoder = _Columns(width), _Columns(width)
        self.layers = nn.ModuleList(MessagePassing(width) for _ in range(config.layers))

    def forward(self, layout: Layout, nodes: Tensor, blocks: Sequence[Tensor], *, thrifty: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The features of a graph to those of the rewritten one, both as `features` gives them; fixed edges stay.

        `thrifty` takes less memory and more time, to the same result. With gradients, the edges before every few layers are kept instead of
        those before each; without, those of one stack of blocks at a time instead of all.
        """
        if not layout.blocks:  # nothing to pass a message along
            return nodes, ()
        wires = wiring(layout, nodes.device)
        stacked = wires.stacked(blocks)
        taps = [stack.taps.to(nodes.dtype) for stack in wires.stacks]
        hidden = self.node_encoder(nodes)
        edges: Iterable[Tensor]
        if thrifty and not torch.is_grad_enabled():
            hidden, edges = self._one_at_a_time(hidden, wires, stacked, taps)
        else:
            hidden, *edges = self._all(hidden, wires, self._edges(stacked, taps, ()), thrifty)
        changed = [
            values + self.config.edge_scale * self._decode(deep, places) if stack.free else values
            for values, deep, places, stack in zip(stacked, edges, taps, wires.stacks, strict=True)
        ]
        return nodes + self.config.node_scale * self.node_decoder(hidden), wires.unstacked(changed, blocks)

    def _all(self, hidden: Tensor, wires: Wiring, edges: Iterable[Tensor], thrifty: bool) -> tuple[Tensor, ...]:
        """Nodes and edges behind all layers."""
        span = isqrt(len(self.layers)) if thrifty else 1
        for start in range(0, len(self.layers), span):
            run = partial(_passed, self.layers[start : start + span], wires)
            hidden, *edges = checkpoint(run, hidden, *edges, use_reentrant=False) if thrifty else run(hidden, *edges)
        return hidden, *edges

    def _one_at_a_time(self, hidden: Tensor, wires: Wiring, stacked: Sequence[Tensor], taps: Sequence[Tensor]) -> tuple[Tensor, Iterator[Tensor]]:
        """As `_all`, the edges of each stack being computed from the start whenever a layer asks for them."""
        history: list[list[tuple[Tensor, Tensor]]] = []
        for layer in cast("Iterable[MessagePassing]", self.layers):
            hidden = layer.messages(hidden, wires, self._edges(stacked, taps, history))
            history.append(layer.factors(hidden, wires))
        return hidden, self._edges(stacked, taps, history)

    def _edges(self, stacked: Sequence[Tensor], taps: Sequence[Tensor], history: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> Iterator[Tensor]:
        """The edges of each stack behind the layers whose factors are `history`."""
        for number, (values, places) in enumerate(zip(stacked, taps, strict=True)):
            edges = self._encode(values, places)
            for factors in history:
                update_in_place(edges, *factors[number])
            yield edges

    def _encode(self, values: Tensor, taps: Tensor) -> Tensor:
        """(groups, outs, ins, taps) to (width, groups, outs, ins)."""
        columns = self.tap_encoder(taps)
        mixed = columns.T @ values.reshape(-1, len(taps)).T
        return self.edge_encoder(mixed).reshape(-1, *values.shape[:3])

    def _decode(self, deep: Tensor, taps: Tensor) -> Tensor:
        """(width, groups, outs, ins) to (groups, outs, ins, taps)."""
        columns, offset = self.tap_decoder(taps).split([len(deep), 1], dim=1)
        return (columns @ self.edge_decoder(deep.flatten(1)) + offset).T.reshape(*deep.shape[1:], len(taps))


class _Columns(nn.Module):
    """ReLU and linear layer, on columns: (width, n) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, columns: Tensor) -> Tensor:
        return torch.addmm(self.linear.bias[:, None], self.linear.weight, columns.relu())


def _passed(layers: Iterable[nn.Module], wires: Wiring, hidden: Tensor, *edges: Tensor) -> tuple[Tensor, ...]:
    """Nodes and edges behind several layers."""
    for layer in layers:
        hidden, *edges = layer(hidden, wires, *edges)
    return hidden, *edges
