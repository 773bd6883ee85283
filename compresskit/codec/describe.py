"""What a stream holds, as figures."""

from __future__ import annotations

from collections.abc import Sequence

from compresskit.codec.base import Base
from compresskit.codec.bitstream import section_sizes
from compresskit.codec.limits import DEFAULT_STREAM_LIMITS, StreamLimits
from compresskit.codec.modalities import MODALITIES
from compresskit.codec.reports import Distortion, ItemReport, StreamInfo
from compresskit.codec.stream import PROGRESSIVE, Stream


def stream_info(
    stream: Stream,
    data: bytes,
    base: Base | None,
    distortions: Sequence[Distortion | None] = (),
    limits: StreamLimits = DEFAULT_STREAM_LIMITS,
) -> StreamInfo:
    """Describe `stream`, which is packed in `data`.

    Args:
        stream, data: the stream.
        base: its base network, None where it has none, or where that is not at hand.
        distortions: of each item, where the originals are known.
        limits: for reading `data`.
    """
    known = distortions or [None] * len(stream.items)
    items = tuple(
        ItemReport(item.name, item.modality, item.format, item.dtype, item.shape, found) for item, found in zip(stream.items, known, strict=True)
    )
    sizes = [_points(item.shape) for item in items]
    rates = [MODALITIES[item.modality].rate(item.metadata) for item in stream.items]
    seconds = [size / rate for size, rate in zip(sizes, rates, strict=True) if rate]
    total, embedded = 8 * len(data), bool(stream.base_file)
    base_bytes = len(base.file) if base is not None else 0
    return StreamInfo(
        method=stream.header.method,
        guard=stream.header.guard,
        tolerance=stream.header.tolerance,
        bits=stream.bits,
        patch=stream.header.patch,
        base=base.name if base is not None else stream.header.base.hex() or None,
        base_bytes=base_bytes,
        items=items,
        sections=section_sizes(data, limits, partial=stream.whole is not None),
        bytes=len(data),
        points=sum(sizes),
        bpp=total / sum(sizes),
        bpp_with_base=(total + (0 if embedded else 8 * base_bytes)) / sum(sizes),
        kbps=total / 1000 / sum(seconds) if len(seconds) == len(sizes) else None,
        progressive=stream.version in PROGRESSIVE,
    )


def _points(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape[:-1]:
        count *= size
    return count
