"""What a metanetwork needs of memory, said when there is not enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, isqrt, prod

from compresskit.errors import InputError
from compresskit.metaprune.attempt import lacked_memory
from compresskit.metaprune.layout import Layout
from compresskit.metaprune.network import Metanetwork, MetanetworkConfig
from compresskit.metaprune.pna_wiring import STACKED

FLOAT_BYTES = 4
CODED = 4  # copies of the largest stack of edges: as they were read and as they are, and two on the way through an encoder or a decoder
SLOPES = 4  # copies of all edges beside those between layers: two gradients, and what the encoder and the decoder keep for theirs


@contextmanager
def enough_memory(metanetwork: Metanetwork, layout: Layout, *, training: bool = False) -> Iterator[None]:
    """Turn running out of memory in the context into an error that says how much it takes.

    Args:
        training: whether gradients are to be computed.

    Raises:
        InputError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacked_memory(error):
            raise
        config = metanetwork.config
        needed = needed_bytes(config, layout, training=training) / 1e9
        raise InputError(
            f"not enough memory for the metanetwork: {layout.edges} edges of {config.width} numbers take about {needed:.1f} GB; "
            "use one of a smaller --width, or prune the network first (--initial)"
        ) from error


def needed_bytes(config: MetanetworkConfig, layout: Layout, *, training: bool) -> int:
    """About how many bytes the thrifty way of `Metanetwork.forward` takes at its peak, which is the way that is tried last.

    Without gradients, one stack of edges at a time, and the weights as they were read and as they become. With gradients, all edges before
    every few layers, and after each of those few that are computed again.
    """
    edges = [prod(block.shape[:3]) for block in layout.blocks]
    taps = sum(prod(block.shape) for block in layout.blocks)
    if training:
        span = isqrt(config.layers)
        held = (ceil(config.layers / span) + span + SLOPES) * layout.edges
    else:
        held = CODED * max([*edges, min(STACKED, layout.edges)])
    return FLOAT_BYTES * (config.width * held + 2 * taps)
