"""A stream with everything that its symbols need, checked; and the patches in its chunks, as far as these are there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.base import Base, load_base
from compresskit.codec.chunks import Frame, SymbolCode, begun_chunk, unpack_chunk
from compresskit.codec.coinpp import Layout, frame_of, latent_code, layout
from compresskit.codec.entropy import unpack_table
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.modalities import MODALITIES
from compresskit.codec.patchcode import PatchCodes, chunk_size
from compresskit.codec.regions import Positions
from compresskit.codec.shelf import find
from compresskit.codec.stream import CONTEXTS, PREDICTED, PROGRESSIVE, Item, Stream
from compresskit.errors import InputError


@dataclass(frozen=True, eq=False)
class Opened:
    """A stream with everything that its symbols need.

    Attributes:
        stream: unpacked.
        base: of COIN++, None for the other methods.
        layouts: of each item, of COIN++; () for the other methods.
        code: of COIN++'s latents.
    """

    stream: Stream
    base: Base | None = None
    layouts: tuple[Layout, ...] = ()
    code: SymbolCode | LatentCode | None = None

    @cached_property
    def first_patches(self) -> tuple[int, ...]:
        """Of each item the number of its first patch, and in the end the number of all."""
        assert self.base is not None
        return tuple(accumulate((lay.patches(self.base) for lay in self.layouts), initial=0))

    @cached_property
    def grids(self) -> tuple[tuple[int, ...], ...]:
        """Of each item, where its patches lie."""
        assert self.base is not None
        return tuple(lay.grid(self.base) for lay in self.layouts)

    def touched(self, number: int, parts: Positions | None, scale: int) -> NDArray[np.bool_] | None:
        """(patches,) which patches of an item hold samples at `parts`; None where all are needed."""
        assert self.base is not None
        # Residuals are coded in the context of all that was decoded before.
        if parts is None or self.guarded(scale):
            return None
        return self.layouts[number].touched(self.base, parts, scale)

    def guarded(self, scale: int) -> bool:
        """Whether residuals are added to what the network makes: none are on a finer grid."""
        return self.stream.header.guard != "none" and scale == 1

    @property
    def progressive(self) -> bool:
        """Whether one chunk holds all patches, coarse latents first."""
        return self.stream.version in PROGRESSIVE

    @property
    def chunk_size(self) -> int:
        """Patches of a chunk; the last one may have fewer."""
        assert self.base is not None
        return self.first_patches[-1] if self.progressive else chunk_size(self.base)

    def chunk(self, index: int) -> PatchCodes:
        """The patches of one chunk, as far as it is there.

        Raises:
            InputError: it is damaged.
        """
        whole = self.stream.whole
        if whole is None or index < whole:
            return unpack_chunk(self.stream.chunks[index], *self._packing(index))
        return self._begun[0] if index == whole else self._begin(index)[0]

    def _packing(self, index: int) -> tuple[SymbolCode | LatentCode, NDArray[np.int64], Frame]:
        """What `unpack_chunk` must know of a chunk."""
        assert self.base is not None
        assert self.code is not None
        begin = index * self.chunk_size
        end = min(begin + self.chunk_size, self.first_patches[-1])
        return self.code, self.base.centers, frame_of(self.base, self.layouts, self.first_patches, begin, end)

    def _begin(self, index: int) -> tuple[PatchCodes, int]:
        """As `begun_chunk`, of a chunk that was cut off, or is not there at all."""
        data = self.stream.chunks[index] if index < len(self.stream.chunks) else b""
        return begun_chunk(data, *self._packing(index))

    @cached_property
    def _begun(self) -> tuple[PatchCodes, int]:
        """The chunk where the stream was cut off."""
        assert self.stream.whole is not None
        return self._begin(self.stream.whole)

    @cached_property
    def known(self) -> float:
        """The part of all latents that are there: 1, unless the stream was cut off.

        Raises:
            InputError: the chunk where it was is damaged.
        """
        whole = self.stream.whole
        if self.base is None or whole is None or whole * self.chunk_size >= self.first_patches[-1]:
            return 1.0
        return (whole * self.chunk_size + self._begun[1] / self.base.latents) / self.first_patches[-1]


def open_stream(stream: Stream, given: Base | None = None) -> Opened:
    """Find the base network, and check that chunks and residuals are as many as the items ask for.

    Raises:
        InputError: the base network is not at hand or does not suit the items, or the stream contradicts itself.
    """
    header = stream.header
    check_kinds(stream)
    residuals, cut = len(stream.items) if header.guard != "none" and header.method != "plain" else 0, stream.whole is not None
    if len(stream.residuals) > residuals or (len(stream.residuals) < residuals and not cut):
        raise InputError(f"damaged bitstream: {len(stream.residuals)} residuals for {len(stream.items)} items")
    if header.method != "coin++":
        if cut:
            raise InputError(f"bitstream that was cut off: --partial is for COIN++, and this one is of method {header.method}; get all of it")
        if len(stream.chunks) != len(stream.items):
            raise InputError(f"damaged bitstream: {len(stream.chunks)} chunks for {len(stream.items)} items")
        return Opened(stream)
    base = find(header.base, load_base(stream.base_file, "the embedded base network") if stream.base_file else given)
    if stream.bits not in base.steps:
        raise InputError(f"damaged bitstream: latents of {stream.bits:g} bits")
    if (stream.version in PREDICTED) != (base.prior is not None):
        raise InputError(f"damaged bitstream: latents of the base network {base.name} are not coded as in version {stream.version}")
    layouts = tuple(_layout(item, base, header.patch) for item in stream.items)
    opened = Opened(stream, base, layouts, _code(stream, base))
    patches = opened.first_patches[-1]
    chunks = -(-patches // opened.chunk_size)
    if len(stream.chunks) > chunks or (len(stream.chunks) < chunks and not cut):
        raise InputError(f"damaged bitstream: {len(stream.chunks)} chunks for {patches} patches")
    return opened


def _code(stream: Stream, base: Base) -> SymbolCode | LatentCode:
    bits, progressive = stream.bits, stream.version in PROGRESSIVE
    if base.prior is not None:
        return latent_code(base, bits, progressive=progressive)
    tables = unpack_table(stream.tables, (base.latents, 1 << stream.header.bits)) if stream.tables else base.tables[int(bits)]
    return SymbolCode(base.quantizer(int(bits)), tables, stream.version >= CONTEXTS, progressive)


def check_kinds(stream: Stream) -> None:
    """Check that items are of modalities and formats that can be written.

    Raises:
        InputError: one is not.
    """
    for item in stream.items:
        if item.modality not in MODALITIES or item.format not in MODALITIES[item.modality].formats:
            raise InputError(f"bitstream with {item.modality} data of format {item.format}, which this version does not know: a newer one may")


def _layout(item: Item, base: Base, patch: tuple[int, ...]) -> Layout:
    spatial = len(item.shape) - 2
    if base.axes != spatial or (base.geometry == "sphere") != item.sphere or (len(patch) not in (0, 1, spatial)):
        raise InputError(f"damaged bitstream: the base network {base.name} is not for signals of {spatial} axes")
    axes = MODALITIES[item.modality].axes(item.metadata, item.shape) if item.sphere else ()
    if item.sphere and [len(axis) for axis in axes] != list(item.shape[1:-1]):
        raise InputError("damaged bitstream: latitudes and longitudes do not fit the samples")
    return layout(item.shape, item.scale.levels, patch, axes)
