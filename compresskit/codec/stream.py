"""What a bitstream holds once it is unpacked, and what every part of it must satisfy, on the way in and on the way out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from compresskit.codec.signal import Scale
from compresskit.errors import InputError
from compresskit.wording import listed, shown

METHODS = ("coin++", "coin", "plain")
GUARDS = ("none", "max-error", "lossless")
DTYPES = ("|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "|b1")

BASE_BYTES = 4
DIGEST_BYTES = 32
MAX_AXES = 8
MAX_BITS = 16
MAX_LEVELS = 2**16

_WORD = re.compile(r"[a-z0-9][a-z0-9._+-]{0,31}")


@dataclass(frozen=True)
class Item:
    """One file of a bitstream, all but its symbols.

    Attributes:
        name: file name without folder, "" for none.
        modality, format, dtype: as in `Signal`; `dtype` is NumPy's `dtype.str`, little endian: one of `DTYPES`.
        shape: (frames, *spatial, channels), none of them 0.
        scale: the levels that are coded.
        peak: the range that PSNR refers to.
        metadata: opaque, the modality's.
        missing: deflated mask of missing samples, opaque here; b"" where none is missing.
        sphere: whether the two spatial axes are latitude and longitude.
    """

    name: str
    modality: str
    format: str
    dtype: str
    shape: tuple[int, ...]
    scale: Scale
    peak: float
    metadata: bytes = b""
    missing: bytes = b""
    sphere: bool = False


@dataclass(frozen=True)
class Header:
    """What all items of a bitstream have in common.

    Attributes:
        method: one of `METHODS`.
        base: the first 4 bytes of the base network's SHA-256, b"" where none is needed.
        patch: edges of a patch along the spatial axes, () where items are coded whole.
        bits: of a symbol, 0 to 16.
        guard: one of `GUARDS`.
        tolerance: of the guard, in the unit of the samples; 0 without a guard.
        digest: SHA-256 of the decoded samples, or b"".
    """

    method: str
    base: bytes = b""
    patch: tuple[int, ...] = ()
    bits: int = 0
    guard: str = "none"
    tolerance: float = 0.0
    digest: bytes = b""


@dataclass(frozen=True)
class Stream:
    """A bitstream, unpacked. Chunks, residuals, tables and the base network are opaque here.

    Attributes:
        header: what the items have in common.
        items: at least one.
        chunks: the range-coded symbols of 256 consecutive patches each.
        residuals: what guards add, or ().
        tables: frequency tables that replace those of the base network, or b"".
        base_file: the embedded base network, or b"".
    """

    header: Header
    items: tuple[Item, ...]
    chunks: tuple[bytes, ...]
    residuals: tuple[bytes, ...] = ()
    tables: bytes = b""
    base_file: bytes = b""


def check_header(header: Header) -> None:
    """Check every field.

    Raises:
        InputError: one has a value that no bitstream may hold.
    """
    _require(header.method in METHODS, f"method {header.method!r}: expected one of {listed(METHODS)}")
    _require(header.guard in GUARDS, f"guard {header.guard!r}: expected one of {listed(GUARDS)}")
    _require(len(header.base) in (0, BASE_BYTES), f"base named by {len(header.base)} bytes: expected {BASE_BYTES}, or none")
    _require(len(header.digest) in (0, DIGEST_BYTES), f"digest of {len(header.digest)} bytes: expected {DIGEST_BYTES}, or none")
    _require(0 <= header.bits <= MAX_BITS, f"{header.bits} bits: expected 0 to {MAX_BITS}")
    _require(len(header.patch) <= MAX_AXES and min(header.patch, default=1) >= 1, f"patch {header.patch}: expected edges of 1 and more")
    tolerable = math.isfinite(header.tolerance) and header.tolerance >= 0 and (header.guard != "none" or header.tolerance == 0)
    _require(tolerable, f"tolerance {header.tolerance} with guard {header.guard}: expected a finite number from 0 up, and 0 without a guard")


def check_layout(item: Item) -> None:
    """Check what an item says of its samples: every field but `name`, `metadata` and `missing`.

    Raises:
        InputError: one has a value that no bitstream may hold.
    """
    for word in (item.modality, item.format):
        _require(_WORD.fullmatch(word) is not None, f"{shown(word)!r}: expected a modality or format of up to 32 letters, digits and ._+-")
    _require(item.dtype in DTYPES, f"dtype {shown(item.dtype)!r}: expected one of {listed(DTYPES, len(DTYPES))}")
    axes = len(item.shape) - 2
    _require(1 <= axes <= MAX_AXES and min(item.shape) >= 1, f"shape {item.shape}: expected frames, 1 to {MAX_AXES} axes, channels, none of them 0")
    scale = item.scale
    _require(1 <= scale.levels <= MAX_LEVELS, f"{scale.levels} levels: expected 1 to {MAX_LEVELS}")
    _require(math.isfinite(scale.step) and scale.step > 0, f"step {scale.step}: expected a positive, finite number")
    top = scale.low + scale.step * (scale.levels - 1)
    _require(math.isfinite(scale.low) and math.isfinite(top), f"levels from {scale.low} to {top}: expected finite numbers")
    _require(math.isfinite(item.peak) and item.peak >= 0, f"peak {item.peak}: expected a finite number from 0 up")


def check_name(name: str) -> None:
    """Check that `name` cannot lead out of the folder that it is joined to.

    Raises:
        InputError: it is no plain file name.
    """
    _require("/" not in name and "\0" not in name and name not in (".", ".."), f"name {name!r}: expected a file name without a folder")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise InputError(f"bitstream with {otherwise}")
