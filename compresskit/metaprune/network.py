"""The metanetwork, from a network's tensors to the tensors that it gives that network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from compresskit.metaprune.features import features, parameters
from compresskit.metaprune.layout import Layout
from compresskit.metaprune.network_file import load, save
from compresskit.metaprune.network_model import Metanetwork, MetanetworkConfig

__all__ = ["Metanetwork", "MetanetworkConfig", "load", "rewrite", "save"]


def rewrite(metanetwork: Metanetwork, layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters that `metanetwork` gives a network, for `torch.func.functional_call`; differentiable.

    Args:
        metanetwork: what rewrites.
        layout: of the network.
        tensors: its parameters and buffers, by name.

    Returns:
        the parameters that have a place in the graph; the others stay as they are.
    """
    nodes, blocks = metanetwork(layout, *features(layout, tensors))
    return parameters(layout, nodes, blocks)
