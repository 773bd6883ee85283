"""The metanetwork, from a network's tensors to the tensors that it gives that network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from compresskit.metaprune.attempt import attempted
from compresskit.metaprune.features import features, parameters
from compresskit.metaprune.layout import Layout
from compresskit.metaprune.network_file import load, save
from compresskit.metaprune.network_model import Metanetwork, MetanetworkConfig

__all__ = ["Metanetwork", "MetanetworkConfig", "load", "rewrite", "save"]


def rewrite(metanetwork: Metanetwork, layout: Layout, tensors: Mapping[str, Tensor], *, thrifty: bool = False) -> dict[str, Tensor]:
    """The parameters that `metanetwork` gives a network, for `torch.func.functional_call`; differentiable.

    Where memory runs out on the way, it tries again with less (`Metanetwork.forward`'s `thrifty`).

    Args:
        metanetwork: what rewrites.
        layout: of the network.
        tensors: its parameters and buffers, by name.
        thrifty: take less memory from the start.

    Returns:
        the parameters that have a place in the graph; the others stay as they are.
    """
    dtype = next(metanetwork.parameters()).dtype
    nodes, blocks = features(layout, tensors)
    graph = nodes.to(dtype), tuple(values.to(dtype) for values in blocks)
    found = None if thrifty else attempted(partial(metanetwork, layout, *graph))
    nodes, blocks = found or metanetwork(layout, *graph, thrifty=True)
    return {name: tensor.to(tensors[name].dtype) for name, tensor in parameters(layout, nodes, blocks).items()}
