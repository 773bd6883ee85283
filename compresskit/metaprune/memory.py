"""What a metanetwork needs of memory, said when there is not enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from compresskit.errors import InputError
from compresskit.metaprune.layout import Layout
from compresskit.metaprune.network import Metanetwork, lacked_memory

LIVE = 4  # how many times over the numbers of all edges are held at once: before and after a layer, and twice in between


@contextmanager
def enough_memory(metanetwork: Metanetwork, layout: Layout, *, training: bool = False) -> Iterator[None]:
    """Turn running out of memory in the context into an error that says how much it takes.

    Args:
        training: whether the edges after each layer are kept, to go back through; what is between is computed again.

    Raises:
        InputError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacked_memory(error):
            raise
        config = metanetwork.config
        copies = LIVE + (config.layers if training else 0)
        needed = layout.edges * config.width * copies * 4 / 1e9
        raise InputError(
            f"not enough memory for the metanetwork: {layout.edges} edges of {config.width} numbers take about {needed:.1f} GB; "
            "use one of a smaller --width, or prune the network first (--initial)"
        ) from error
