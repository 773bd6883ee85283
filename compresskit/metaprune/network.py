"""The metanetwork, from a network's tensors to the tensors that it gives that network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from compresskit.metaprune.features import features, parameters
from compresskit.metaprune.layout import Layout
from compresskit.metaprune.network_file import load, save
from compresskit.metaprune.network_model import Metanetwork, MetanetworkConfig

_SIGNS = ("can't allocate memory", "out of memory")  # on the CPU and on a GPU

__all__ = ["Metanetwork", "MetanetworkConfig", "lacked_memory", "load", "rewrite", "save"]


def rewrite(metanetwork: Metanetwork, layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters that `metanetwork` gives a network, for `torch.func.functional_call`; differentiable.

    Where memory runs out on the way, it tries again with less (`Metanetwork.forward`'s `thrifty`).

    Args:
        metanetwork: what rewrites.
        layout: of the network.
        tensors: its parameters and buffers, by name.

    Returns:
        the parameters that have a place in the graph; the others stay as they are.
    """
    dtype = next(metanetwork.parameters()).dtype
    nodes, blocks = features(layout, tensors)
    graph = nodes.to(dtype), tuple(values.to(dtype) for values in blocks)
    # Not in the handler of the error, which holds on to all that was computed.
    nodes, blocks = _attempted(metanetwork, layout, *graph) or metanetwork(layout, *graph, thrifty=True)
    return {name: tensor.to(tensors[name].dtype) for name, tensor in parameters(layout, nodes, blocks).items()}


def _attempted(metanetwork: Metanetwork, layout: Layout, nodes: Tensor, blocks: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """The rewritten graph; None where memory ran out and less might do."""
    try:
        return metanetwork(layout, nodes, blocks)
    except (MemoryError, RuntimeError) as error:
        if not lacked_memory(error):
            raise
        return None


def lacked_memory(error: BaseException) -> bool:
    """Whether an error of torch says that memory ran out."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)
