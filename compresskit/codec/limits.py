"""How much a bitstream may unpack to, and how long that may take, checked against what it declares before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.data.limits import ByteBudget
from compresskit.wording import human

ITEM_BYTES = 4096
"""Counted for an item beside its samples: its record, and the signal and the file that are made of it."""

PART_BYTES = 512
"""Counted for a chunk, a name or any other part of a list beside its bytes: an object and the work of one decoder call."""


@dataclass(frozen=True)
class StreamLimits:
    """Bounds on bitstreams from outside.

    Attributes:
        max_bytes: of the decoded samples, in the dtypes of their files, with the metadata and bookkeeping of all items (`--max-memory`).
        max_macs: multiply-accumulates of decoding, as `workspace.work` counts them (`--max-macs`): about a minute of one core, at a width of 64.
    """

    max_bytes: int = 512 * 2**20
    max_macs: float = 2.0**40


DEFAULT_STREAM_LIMITS = StreamLimits()


class MemoryBudget(ByteBudget):
    """The bytes of `limits.max_bytes` that are left while one bitstream is read."""

    def __init__(self, limits: StreamLimits) -> None:
        super().__init__(limits.max_bytes, f"would take the bitstream over {human(limits.max_bytes)} of memory; if that is meant, raise --max-memory")
