"""What a picture's file holds beside its samples, as few bytes: none for most, and never more than the file had."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from compresskit.errors import InputError

_ONE_BIT, _DPI, _ICC, _EXIF = 1, 2, 4, 8
_COMPRESSION_SHIFT = 4
_TIFF_COMPRESSIONS = ("tiff_deflate", "raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "group3", "group4")  # lossless, in Pillow's words
# Of a TIFF, whose tags tell where its samples lie too: description, maker, model, software, time, artist, host, copyright.
_DESCRIPTIVE_TAGS = (270, 271, 272, 305, 306, 315, 316, 33432)
_EXIF_PREFIX = b"Exif\0\0"


@dataclass(frozen=True)
class ImageMetadata:
    """The rest of a picture's file.

    Attributes:
        one_bit: whether the samples, 0 and 255, are stored in one bit each.
        compression: of a TIFF, in Pillow's words; any other kind has the first.
        dpi: horizontally and vertically, or None.
        icc: the colour profile, b"" for none.
        exif: the TIFF structure of EXIF, orientation included, without "Exif\\0\\0"; b"" for none.
    """

    one_bit: bool = False
    compression: str = _TIFF_COMPRESSIONS[0]
    dpi: tuple[float, float] | None = None
    icc: bytes = b""
    exif: bytes = b""

    @classmethod
    def of(cls, image: Image.Image) -> ImageMetadata:
        """Collect it from a decoded image. What is malformed there is left out: a PNG's text chunks can take any of these names."""
        icc, compression = image.info.get("icc_profile"), image.info.get("compression")
        return cls(
            one_bit=image.mode == "1",
            compression=compression if compression in _TIFF_COMPRESSIONS else _TIFF_COMPRESSIONS[0],
            dpi=_dpi(image.info.get("dpi")),
            icc=icc if isinstance(icc, bytes) else b"",
            exif=_exif(image),
        )

    def pack(self) -> bytes:
        """A byte of flags and what they announce; b"" where all is as usual."""
        flags = _ONE_BIT * self.one_bit | _DPI * (self.dpi is not None) | _ICC * bool(self.icc) | _EXIF * bool(self.exif)
        flags |= _TIFF_COMPRESSIONS.index(self.compression) << _COMPRESSION_SHIFT
        dpi = struct.pack("<2f", *self.dpi) if self.dpi else b""
        icc = struct.pack("<I", len(self.icc)) + self.icc if self.icc else b""
        return bytes([flags]) + dpi + icc + self.exif if flags else b""

    @classmethod
    def unpack(cls, data: bytes) -> ImageMetadata:
        """Undo `pack`.

        Raises:
            InputError: no `pack` made these bytes.
        """
        if not data:
            return cls()
        flags, rest = data[0], data[1:]
        try:
            compression = _TIFF_COMPRESSIONS[flags >> _COMPRESSION_SHIFT]
            dpi = None
            if flags & _DPI:
                dpi, rest = _dpi(struct.unpack_from("<2f", rest)), rest[8:]
            icc = b""
            if flags & _ICC:
                (length,), rest = struct.unpack_from("<I", rest), rest[4:]
                icc, rest = rest[:length], rest[length:]
                if len(icc) < length:
                    raise struct.error("short")
        except (struct.error, IndexError):
            raise InputError("the picture's metadata is damaged: expected flags, resolution, colour profile and EXIF") from None
        return cls(bool(flags & _ONE_BIT), compression, dpi, icc, rest if flags & _EXIF else b"")


def _dpi(value: object) -> tuple[float, float] | None:
    """A resolution that any format can store, else None."""
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    try:
        across, down = float(value[0]), float(value[1])
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if all(math.isfinite(dots) and 0 < dots < 1e6 for dots in (across, down)) else None


def _exif(image: Image.Image) -> bytes:
    if isinstance(image, TiffImageFile):  # which Pillow turns upright
        kept = Image.Exif()
        kept.update({tag: image.tag_v2[tag] for tag in _DESCRIPTIVE_TAGS if tag in image.tag_v2})
        return kept.tobytes().removeprefix(_EXIF_PREFIX) if kept else b""
    exif = image.info.get("exif")
    return exif.removeprefix(_EXIF_PREFIX) if isinstance(exif, bytes) else b""
