"""How much a bitstream may unpack to, checked against what it declares before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.errors import InputError
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
    """

    max_bytes: int = 512 * 2**20


DEFAULT_STREAM_LIMITS = StreamLimits()


class MemoryBudget:
    """The bytes of `limits.max_bytes` that are left while one bitstream is read."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limit = limits.max_bytes
        self._left = limits.max_bytes

    def take(self, count: int, what: str) -> None:
        """Reserve `count` bytes for `what`. To be called before the bytes are allocated.

        Raises:
            InputError: that is more than is left.
        """
        if count > self._left:
            raise InputError(f"{what}: would take the bitstream over {human(self._limit)} of memory; if that is meant, raise --max-memory")
        self._left -= count
