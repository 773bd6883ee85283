"""What a bitstream holds once it is unpacked, and what every part of it must satisfy, on the way in and on the way out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from compresskit.codec.signal import Scale
from compresskit.errors import InputError
from compresskit.wording import listed

VERSIONS = (1, 2, 3, 4, 5)
CONTEXTS = 2
"""The version from which on chunks may hold latents in contexts."""

PREDICTED = (4, 5)
"""The versions of base networks that expect something of their latents."""

PROGRESSIVE = (3, 5)
"""The versions whose one chunk holds all patches, coarse latents first: of base networks with tables, and of the others."""

METHODS = ("coin++", "coin", "plain")
GUARDS = ("none", "max-error", "lossless")
DTYPES = ("|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "|b1")

BASE_BYTES = 4
DIGEST_BYTES = 32
MAX_AXES = 8
MAX_BITS, MAX_HALF_BITS = 16, 24
MAX_LEVELS = 2**16
MAX_WORD = 32

_WORD = re.compile(rf"[a-z0-9][a-z0-9._+-]{{0,{MAX_WORD - 1}}}")


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
        bits: of a symbol, or halves of those of a predicted latent: 0 to 16, or 24.
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
        chunks: the range-coded latents of so many consecutive patches each.
        residuals: what guards add, or ().
        tables: frequency tables that replace those of the base network, or b"".
        base_file: the embedded base network, or b"".
        version: of the format, one of `VERSIONS`: the first one that has what is needed, so that most releases read it.
        whole: of a bitstream that was cut off, how many of its chunks are whole; the one behind them, where there is one, is a beginning. Else None.
    """

    header: Header
    items: tuple[Item, ...]
    chunks: tuple[bytes, ...]
    residuals: tuple[bytes, ...] = ()
    tables: bytes = b""
    base_file: bytes = b""
    version: int = VERSIONS[0]
    whole: int | None = None

    @property
    def bits(self) -> float:
        """Of a symbol; of predicted latents, of which the header counts halves."""
        return self.header.bits / 2 if self.version in PREDICTED else self.header.bits


def check_header(header: Header, version: int) -> None:
    """Check every field of a header of that version of the format.

    Raises:
        InputError: one has a value that no bitstream may hold.
    """
    if header.method not in METHODS:
        raise InputError(f"bitstream with method {header.method!r}: expected one of {listed(METHODS)}")
    if header.guard not in GUARDS:
        raise InputError(f"bitstream with guard {header.guard!r}: expected one of {listed(GUARDS)}")
    if len(header.base) not in (0, BASE_BYTES):
        raise InputError(f"bitstream with a base named by {len(header.base)} bytes: expected {BASE_BYTES}, or none")
    if len(header.digest) not in (0, DIGEST_BYTES):
        raise InputError(f"bitstream with a digest of {len(header.digest)} bytes: expected {DIGEST_BYTES}, or none")
    most = MAX_HALF_BITS if version in PREDICTED else MAX_BITS
    if not 0 <= header.bits <= most:
        raise InputError(f"bitstream with symbols of {header.bits} bits: expected 0 to {most}")
    if len(header.patch) > MAX_AXES or min(header.patch, default=1) < 1:
        raise InputError(f"bitstream with patches of {header.patch}: expected up to {MAX_AXES} edges, of 1 and more")
    if not 0 <= header.tolerance < math.inf:
        raise InputError(f"bitstream with tolerance {header.tolerance}: expected a finite number from 0 up")
    if header.guard == "none" and header.tolerance != 0:
        raise InputError(f"bitstream with tolerance {header.tolerance}, but without a guard: expected 0")


def check_layout(item: Item) -> None:
    """Check what an item says of its samples: every field but `name`, `metadata` and `missing`.

    Raises:
        InputError: one has a value that no bitstream may hold.
    """
    for word in (item.modality, item.format):
        if not _WORD.fullmatch(word):
            raise InputError(f"bitstream with a modality or format {word!r}: expected up to {MAX_WORD} of a-z, 0-9 and ._+-, no mark at the start")
    if item.dtype not in DTYPES:
        raise InputError(f"bitstream with dtype {item.dtype!r}: expected one of {listed(DTYPES, len(DTYPES))}")
    if not 1 <= len(item.shape) - 2 <= MAX_AXES or min(item.shape) < 1:
        raise InputError(f"bitstream with shape {item.shape}: expected frames, 1 to {MAX_AXES} axes, channels, none of them 0")
    low, step, levels = item.scale.low, item.scale.step, item.scale.levels
    if not 1 <= levels <= MAX_LEVELS:
        raise InputError(f"bitstream with {levels} levels: expected 1 to {MAX_LEVELS}")
    if not 0 < step < math.inf:
        raise InputError(f"bitstream with step {step}: expected a positive, finite number")
    if not (math.isfinite(low) and math.isfinite(low + step * (levels - 1))):
        raise InputError(f"bitstream with levels from {low} to {low + step * (levels - 1)}: expected finite numbers")
    if not 0 <= item.peak < math.inf:
        raise InputError(f"bitstream with peak {item.peak}: expected a finite number from 0 up")


def check_name(name: str) -> None:
    """Check that `name` cannot lead out of the folder that it is joined to.

    Raises:
        InputError: it is no plain file name.
    """
    if "/" in name or "\0" in name or name in (".", ".."):
        raise InputError(f"bitstream with name {name[:64]!r}: expected a file name without a folder")
