"""What beginnings of a stream are worth, in both orders: `python tests/benchmarks/codec_progressive.py --data ../shared/data`.

A picture that the base network has not seen is encoded with and without `--progressive`, at the same latents. Of each stream the first 10 to
100 % of all bytes are decoded as `decode --partial` does: PSNR, and the part of the latents that is there. The overhead is what the order
adds to the bytes of the whole stream.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from common import RESULTS, heading, write

from compresskit.codec import shelf
from compresskit.codec.bitstream import unpack
from compresskit.codec.config import EncodeConfig
from compresskit.codec.decoder import decode_items
from compresskit.codec.encoder import Work, encode_coinpp
from compresskit.codec.metrics import psnr
from compresskit.codec.modalities import read
from compresskit.codec.opened import open_stream
from compresskit.codec.settings import STEPS, ladder
from compresskit.codec.signal import Signal
from compresskit.runtime import set_threads

PICTURE = "kodim11.png"
QUALITIES = (4, 6)
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
ORDERS = {"plain": False, "progressive": True}


def measured(work: Work, quality: int) -> dict[str, Any]:
    """Both orders at one quality."""
    (signal,) = work.signals
    assert work.base is not None
    setting = ladder(work.base, EncodeConfig(quality=quality), max(signal.values.shape[1:-1]))[quality - 1]
    orders: dict[str, Any] = {}
    for order, progressive in ORDERS.items():
        work.progressive = progressive
        stream = encode_coinpp(work, setting).data
        orders[order] = {"bytes": len(stream), "beginnings": [beginning(signal, stream, share) for share in SHARES]}
    sizes = [orders[order]["bytes"] for order in ORDERS]
    return {
        "quality": quality,
        "edge": setting.patch[0],
        "bits": setting.bits,
        "orders": orders,
        "overhead_bytes": sizes[1] - sizes[0],
        "overhead_percent": round(100 * (sizes[1] / sizes[0] - 1), 2),
    }


def beginning(signal: Signal, stream: bytes, share: float) -> dict[str, float]:
    """What this share of all bytes decodes to."""
    data = stream[: round(share * len(stream))]
    opened = open_stream(unpack(data, partial=True))
    found = psnr(signal.values, next(decode_items(opened, [0])).values, signal.peak)
    return {"share": share, "bytes": len(data), "latents": round(opened.known, 4), "psnr": round(found, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    threads = set_threads(1)
    signal = read((options.data / "kodak" / PICTURE).read_bytes(), PICTURE)
    work = Work([signal], shelf.suited(sphere=False, axes=2, channels=3), STEPS)
    rows = []
    for quality in QUALITIES:
        rows.append(measured(work, quality))
        print(json.dumps(rows[-1], indent=1), flush=True)
    write(RESULTS / "codec_progressive.json", {**heading(threads), "picture": PICTURE, "steps": STEPS, "rows": rows})


if __name__ == "__main__":
    main()
