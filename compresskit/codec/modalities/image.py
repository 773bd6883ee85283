"""Pictures: PNG, JPEG, TIFF, BMP and WebP, gray or colour, with or without alpha, of 8 or 16 bits.

Palettes are expanded; of several frames or pages none is chosen. Samples stay as they are stored, and an orientation stays in the EXIF data,
except in a TIFF, which is turned upright.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from compresskit.codec.modalities.image_metadata import ImageMetadata
from compresskit.codec.modalities.modality import MODALITIES, Modality
from compresskit.codec.modalities.png16 import is_png16, read_png16, write_png16
from compresskit.codec.modalities.reshaping import crop
from compresskit.codec.signal import Scale, Signal
from compresskit.data.images import open_image
from compresskit.data.limits import Budget
from compresskit.errors import InputError, UsageError
from compresskit.wording import first_line

_KEEPS = {  # (bytes a sample, channels) of the pictures that each format holds exactly
    "png": {(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 3), (2, 4)},
    "jpeg": set(),
    "tiff": {(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)},
    "bmp": {(1, 1), (1, 3)},
    "webp": {(1, 3), (1, 4)},
}
_BMP_HEADER_SIZES = {12, 40, 52, 56, 64, 108, 124}
_MODES = {"1": "L", "L": "L", "P": "RGB", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA"}
_TRANSPARENT_MODES = {"1": "LA", "L": "LA", "RGB": "RGBA", "P": "RGBA"}  # of a PNG that declares one colour, or palette entries, transparent
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
_WHITE_IS_ZERO, _UNSIGNED = 0, 1


class ImageFiles(Modality):
    """Pictures, through Pillow: one frame of (height, width, channels)."""

    formats = tuple(_KEEPS)

    def sniff(self, data: bytes, name: str) -> str | None:
        """By the first bytes."""
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return "png"
        if data.startswith(b"\xff\xd8\xff"):
            return "jpeg"
        if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
            return "tiff"
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return "webp"
        if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
            return "bmp"
        return None

    def read(self, data: bytes, format: str, *, name: str, variable: str | None, budget: Budget) -> Signal:
        """See `Modality.read`."""
        if variable is not None:
            raise UsageError(f"{name}: a picture has no variables to choose from; leave out {variable!r}")
        with open_image(io.BytesIO(data), name, budget, (format.upper(),)) as image:
            if getattr(image, "is_animated", False) and format != "jpeg":  # a JPEG's further frames are previews of the first
                raise InputError(f"{name}: has several frames or pages; expected one picture, so save each to a file of its own")
            mode = _exact_mode(image)
            kind = 2 if _stored_bits(image) > 8 else 1, _CHANNELS.get(mode, 1)
            if not mode or kind not in _KEEPS[self.default_output(format)]:
                raise InputError(f"{name}: a {format} with such samples could not be restored; expected gray or RGB, best as a PNG")
            budget.take(image.width * image.height * kind[0] * kind[1], name)
            expanded = image if image.mode == mode else image.convert(mode)
            pixels = read_png16(data) if is_png16(image) else np.asarray(expanded).astype(f"u{kind[0]}", copy=False)
            metadata = ImageMetadata.of(image)
        values = pixels.reshape(1, *pixels.shape[:2], kind[1])
        if format == "webp" and kind[1] == 4 and (values[..., 3] == 255).all():
            values = values[..., :3].copy()  # libwebp, too, drops such an alpha from what it writes
        top = int(np.iinfo(values.dtype).max)
        return Signal(values, "image", format, Scale(0, 1, top + 1), top, metadata.pack(), name=name)

    def write(self, signal: Signal, format: str) -> bytes:
        """See `Modality.write`."""
        values, metadata = signal.values[0], ImageMetadata.unpack(signal.metadata)
        kind = values.dtype.itemsize, values.shape[-1]
        if kind not in _KEEPS[format]:
            able = [other for other, kinds in _KEEPS.items() if kind in kinds]
            raise UsageError(f"{format} would not keep {8 * kind[0]}-bit samples in {kind[1]} channels: choose from {', '.join(able)}")
        return write_png16(values, metadata) if kind[0] == 2 and kind[1] > 1 else _saved(values, metadata, format)

    def default_output(self, format: str) -> str:
        """A lossless format for a lossy one."""
        return "png" if format == "jpeg" else format

    def cropped(self, signal: Signal, parts: Sequence[NDArray[np.int64]]) -> Signal:
        """See `Modality.cropped`."""
        return crop(signal, parts, signal.metadata)

    def refined(self, signal: Signal, scale: int) -> Signal:
        """See `Modality.refined`; dots an inch stay, so that the picture is printed larger."""
        return signal


def _exact_mode(image: ImageFile) -> str:
    """The mode that has every sample of an opened image as it is stored, palettes and transparent colours expanded; "" for none."""
    bits, transparent = _stored_bits(image), "transparency" in image.info
    if bits <= 8:
        return (_TRANSPARENT_MODES if transparent else _MODES).get(image.mode, "")
    gray = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")  # the latter before Pillow 10.3
    return image.mode if bits == 16 and not transparent and (gray or is_png16(image)) else ""


def _stored_bits(image: ImageFile) -> int:
    """Bits a sample, by the header of an opened image, which Pillow's modes don't tell; 32 where it would take samples for others."""
    if isinstance(image, TiffImageFile):
        bits = max(image.tag_v2.get(_BITS, (1,)))
        signed = any(kind != _UNSIGNED for kind in image.tag_v2.get(_SAMPLE_FORMAT, ()))
        inverted = bits > 8 and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        return 32 if signed or inverted else bits
    return 16 if image.tile and "16" in str(image.tile[0][3]) else 8


def _saved(values: NDArray[np.generic], metadata: ImageMetadata, format: str) -> bytes:
    """The file of (height, width, channels) samples, by Pillow."""
    image = Image.fromarray(values.squeeze(-1) if values.shape[-1] == 1 else values)
    if metadata.one_bit and image.mode == "L":
        image = image.point(lambda level: 255 * (level > 127), "1")
    options: dict[str, object] = {}
    if format == "tiff":
        options["compression"] = metadata.compression
    if format == "webp":
        options |= {"lossless": True, "exact": True}
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if metadata.exif:
        options["exif"] = metadata.exif
    stream = io.BytesIO()
    try:
        image.save(stream, format, **options)
    except Exception as error:  # as many kinds as in reading: the metadata comes from a file, too
        raise InputError(f"the picture cannot be written as {format} with its metadata ({first_line(error)})") from error
    return stream.getvalue()


MODALITIES.register("image")(ImageFiles())
