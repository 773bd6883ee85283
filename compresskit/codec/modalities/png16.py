"""PNG with 16 bits in each of three or four channels, which Pillow has no mode for.

Its reader keeps the high bytes. Told that the samples are little-endian, which they are not, it keeps the low bytes: two readings
give all 16 bits. The writer is ours: PNG specification (ISO/IEC 15948), sections 5.6, 9.2, 11.2 and 11.3.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from compresskit.codec.modalities.image_metadata import ImageMetadata

_COLOUR_TYPES = {3: 2, 4: 6}
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
_SUB = 1  # the filter that predicts each byte by the one a pixel before
_INCH = 0.0254  # metres


def is_png16(image: ImageFile) -> bool:
    """Whether an opened, not yet decoded PNG has 16 bits in each of three or four channels."""
    return bool(image.tile) and image.tile[0][3] in _LOW_BYTES


def read_png16(data: bytes) -> NDArray[np.uint16]:
    """(height, width, 3 or 4) samples of a PNG for which `is_png16` holds. Raises what Pillow raises."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        high = np.asarray(image)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        tile = image.tile[0]
        image.tile = [tile._replace(args=_LOW_BYTES[str(tile.args)])]
        low = np.asarray(image)
    return high.astype(np.uint16) << 8 | low


def write_png16(samples: NDArray[np.uint16], metadata: ImageMetadata) -> bytes:
    """The PNG of (height, width, 3 or 4) samples."""
    height, width, channels = samples.shape
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0))]
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(dots / _INCH) for dots in metadata.dpi), 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    chunks += [(b"IDAT", zlib.compress(_filtered(samples).tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _filtered(samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """(height, 1 + bytes in a row): the filter's number, then the differences to the pixel before, modulo 256."""
    height, _, channels = samples.shape
    rows = samples.astype(">u2").view(np.uint8).reshape(height, -1)
    rows[:, 2 * channels :] -= rows[:, : -2 * channels].copy()
    return np.insert(rows, 0, _SUB, axis=1)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
