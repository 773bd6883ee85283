"""Signals to a stream at one setting, with what every decoder will make of it.

signals --levels--> COIN++ or COIN --codes--> decoded samples --guard--> residuals --> stream, packed
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from compresskit.cluster import HERE, Workers
from compresskit.codec.base import Base
from compresskit.codec.bitstream import pack
from compresskit.codec.chunks import SymbolCode, pack_chunk
from compresskit.codec.coinfit import CoinTask, fit_coin
from compresskit.codec.coinpayload import coarse
from compresskit.codec.coinpp import Layout, code_signal, fit_signal, frame_of, latent_code, layout
from compresskit.codec.config import EncodeConfig
from compresskit.codec.entropy import pack_table
from compresskit.codec.guard import Guard, decode_guard, encode_guard, fits
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.levels import Levels, from_levels, to_levels
from compresskit.codec.patchcode import PatchCodes, chunk_size, join, split
from compresskit.codec.refine import Fitted, round_signals
from compresskit.codec.settings import EFFORT_STEPS, Setting
from compresskit.codec.signal import Signal
from compresskit.codec.stream import BASE_BYTES, CONTEXTS, PREDICTED, PROGRESSIVE, VERSIONS, Header, Item, Stream
from compresskit.progress import SILENT, Progress

DIGEST_SHARE = 100
"""A lossy stream carries the digest of its samples where that is at most one part in so many of it."""

Samples = NDArray[np.generic]
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Coded:
    """A stream, and what it decodes to.

    Attributes:
        stream: its parts.
        data: packed.
        decoded: of each signal the samples (frames, *spatial, channels), in its own dtype.
    """

    stream: Stream
    data: bytes
    decoded: tuple[Samples, ...]


@dataclass(eq=False)
class Work:
    """Signals on their way, with the latents that were fitted so far: a change of bits alone needs no new fit.

    Attributes:
        signals: at least one.
        base: for COIN++.
        embed: whether the stream holds the base network.
        steps: of a fit.
        guard: what decoding promises.
        workers: who fits COIN's networks. What COIN++ takes they compute where they are a cluster, a signal at a time each.
        effort: of rounding COIN++'s latents, 1 to 9.
        contexts: whether these may be coded in contexts, which takes version 2 of the format.
        progressive: whether they are, all patches' coarse ones first, which takes version 3.
    """

    signals: Sequence[Signal]
    base: Base | None
    steps: int
    guard: Guard = field(default_factory=Guard)
    embed: bool = False
    workers: Workers = HERE
    progress: Progress = SILENT
    effort: int = EncodeConfig.effort
    contexts: bool = EncodeConfig.contexts
    progressive: bool = EncodeConfig.progressive
    levels: list[Levels] = field(default_factory=list)
    latents: dict[tuple[int, ...], list[NDArray[np.float32]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.levels = [to_levels(signal.values, signal.scale).astype(np.uint16) for signal in self.signals]

    def shared(self, calls: Sequence[Callable[..., R]], patches: Sequence[int]) -> list[R]:
        """Results of `calls`, one a signal, that take a progress as their last argument; it hears of each signal's `patches`."""
        far, found = bool(self.workers.cluster), []
        for result, count in zip(self.workers.share([partial(call, SILENT if far else self.progress) for call in calls]), patches, strict=True):
            found.append(result)
            self.progress.advance(count if far else 0)
        return found


def item_of(signal: Signal) -> Item:
    """What a stream says of a signal beside its samples."""
    missing = b"" if signal.missing is None else zlib.compress(np.packbits(signal.missing).tobytes(), 9)
    dtype = signal.values.dtype.newbyteorder("<").str
    return Item(
        name="",
        modality=signal.modality,
        format=signal.format,
        dtype=dtype,
        shape=signal.values.shape,
        scale=signal.scale,
        peak=signal.peak,
        metadata=signal.metadata,
        missing=missing,
        sphere=is_globe(signal),
    )


def is_globe(signal: Signal) -> bool:
    """Whether a signal's axes go around the globe, and from far south to far north: elsewhere it is a picture."""
    if len(signal.axes) != 2:
        return False
    latitudes, longitudes = signal.axes
    cell = 360 / len(longitudes)
    return bool(np.ptp(latitudes) >= 150 and np.ptp(longitudes) + 1.5 * cell >= 360)


def digest_of(decoded: Sequence[Samples]) -> bytes:
    """SHA-256 of samples, little endian, one signal after the other."""
    state = hashlib.sha256()
    for samples in decoded:
        state.update(_little_endian(samples))
    return state.digest()


def encode_coinpp(work: Work, setting: Setting) -> Coded:
    """COIN++ at one setting (thesis, section 5.2)."""
    base = work.base
    assert base is not None
    layouts = [_layout(signal, setting) for signal in work.signals]
    patches = [lay.patches(base) for lay in layouts]
    if setting.patch not in work.latents:
        work.progress.stage("fit", sum(patches))
        pairs = zip(work.levels, layouts, strict=True)
        work.latents[setting.patch] = work.shared([partial(fit_signal, base, levels, lay, work.steps) for levels, lay in pairs], patches)
    fitted = [Fitted(*parts) for parts in zip(work.levels, layouts, work.latents[setting.patch], strict=True)]
    effort = EFFORT_STEPS[work.effort - 1]
    latents, weights = round_signals(
        base,
        setting.bits,
        fitted,
        effort,
        contexts=work.contexts,
        progressive=work.progressive,
        workers=work.workers,
        progress=work.progress,
    )
    work.progress.stage("decode", sum(patches))
    triples = zip(latents, work.levels, layouts, strict=True)
    codes, levels = zip(*work.shared([partial(code_signal, base, *triple) for triple in triples], patches), strict=True)
    header = Header("coin++", base.digest[:BASE_BYTES], setting.patch, round(setting.bits * (1 if base.prior is None else 2)))
    stream = Stream(header, _items(work.signals), (), base_file=base.file if work.embed else b"")
    return _finished(work, _with_chunks(work, stream, setting.bits, layouts, join(codes), weights), levels)


def _with_chunks(
    work: Work, stream: Stream, bits: float, layouts: Sequence[Layout], codes: PatchCodes, weights: Sequence[NDArray[np.int64]]
) -> Stream:
    """`stream` with the chunks of all patches; of symbols under tables, or in contexts where that takes less."""
    base = work.base
    assert base is not None
    size = len(codes) if work.progressive else chunk_size(base)
    firsts = [0, *accumulate(lay.patches(base) for lay in layouts)]
    frames = [frame_of(base, layouts, firsts, begin, min(begin + size, len(codes))) for begin in range(0, len(codes), size)]

    by_chunk: Sequence[NDArray[np.int64] | None] = weights or [None] * len(frames)

    def packed(code: SymbolCode | LatentCode, version: int) -> Stream:
        triples = zip(split(codes, size), frames, by_chunk, strict=True)
        chunks = tuple(pack_chunk(chunk, code, base.centers, frame, weight) for chunk, frame, weight in triples)
        return replace(stream, chunks=chunks, version=version)

    if base.prior is not None:
        return packed(latent_code(base, bits, progressive=work.progressive), PREDICTED[work.progressive])
    quantizer, tables = base.quantizer(int(bits)), base.tables[int(bits)]
    if work.progressive:
        return packed(SymbolCode(quantizer, tables, contexts=True, progressive=True), PROGRESSIVE[0])
    best, sent = _tables(tables, quantizer.bins(codes.latents))
    plain = replace(packed(SymbolCode(quantizer, best), VERSIONS[0]), tables=sent)
    if not work.contexts:
        return plain
    found = packed(SymbolCode(quantizer, tables, contexts=True), CONTEXTS)
    dearer = sum(map(len, found.chunks)) >= sum(map(len, plain.chunks)) + len(sent)
    return plain if dearer else found


def _tables(tables: NDArray[np.uint32], symbols: NDArray[np.int32]) -> tuple[NDArray[np.uint32], bytes]:
    """The frequency tables (L, K) under which `symbols` (N, L) take the least, `tables` or their own, and what a stream has to say of these."""
    if not symbols.size:
        return tables, b""
    counts = np.stack([np.bincount(column, minlength=tables.shape[1]) for column in symbols.T])
    own = coarse(counts)
    packed = pack_table(own)
    saved = float((counts * (np.log2(own) - np.log2(tables))).sum()) / 8
    return (own, packed) if saved > len(packed) else (tables, b"")


def encode_coin(work: Work, budgets: Sequence[float], bits: int, seed: int) -> Coded:
    """COIN: a network for each signal, of as many bits as `budgets` grant it (thesis, section 5.1)."""
    triples = zip(work.signals, work.levels, budgets, strict=True)
    tasks = [CoinTask(levels, signal.scale.levels, budget, bits, work.steps, seed) for signal, levels, budget in triples]
    if len(tasks) == 1 and not work.workers.cluster:
        coded = [fit_coin(tasks[0], work.progress)]
    else:
        work.progress.stage("fit", len(tasks))
        coded = []
        for found in work.workers.map(fit_coin, tasks):
            coded.append(found)
            work.progress.advance()
    chunks, decoded = zip(*coded, strict=True)
    return _finished(work, Stream(Header("coin", bits=bits), _items(work.signals), chunks), decoded)


def encode_plain(work: Work) -> Coded:
    """Deflated samples: what any coder of data can do."""
    chunks = tuple(deflated(signal.values) for signal in work.signals)
    stream = Stream(Header("plain", guard="lossless"), _items(work.signals), chunks)
    decoded = tuple(signal.values for signal in work.signals)
    stream = replace(stream, header=replace(stream.header, digest=digest_of(decoded)))
    return Coded(stream, pack(stream), decoded)


def deflated(values: Samples) -> bytes:
    """Samples, little endian, as zlib makes them smallest."""
    return zlib.compress(_little_endian(values), 9)


def _little_endian(values: Samples) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def guardable(work: Work) -> bool:
    """Whether residuals can keep the guard's promise for every signal."""
    return work.guard.kind == "none" or all(fits(work.guard, signal.values, signal.scale) for signal in work.signals)


def _items(signals: Sequence[Signal]) -> tuple[Item, ...]:
    """Items of a stream; a single one needs no name."""
    items = [item_of(signal) for signal in signals]
    return tuple(items) if len(items) == 1 else tuple(replace(item, name=signal.name) for item, signal in zip(items, signals, strict=True))


def _layout(signal: Signal, setting: Setting) -> Layout:
    return layout(signal.values.shape, signal.scale.levels, setting.patch, signal.axes if is_globe(signal) else ())


def _finished(work: Work, stream: Stream, levels: Sequence[Levels]) -> Coded:
    """Samples for levels, residuals where a guard asks for them, and a digest where it is due."""
    decoded: list[Samples] = [from_levels(found, signal.scale, signal.values.dtype) for found, signal in zip(levels, work.signals, strict=True)]
    guard = work.guard
    if guard.kind != "none":
        triples = list(zip(work.signals, decoded, strict=True))
        residuals = tuple(encode_guard(guard, signal.values, found, signal.scale) for signal, found in triples)
        decoded = [decode_guard(guard, residual, found, signal.scale) for residual, (signal, found) in zip(residuals, triples, strict=True)]
        header = replace(stream.header, guard=guard.kind, tolerance=guard.tolerance, digest=digest_of(decoded))
        stream = replace(stream, header=header, residuals=residuals)
    data = pack(stream)
    if guard.kind == "none" and len(data) >= 32 * DIGEST_SHARE:
        stream = replace(stream, header=replace(stream.header, digest=digest_of(decoded)))
        data = pack(stream)
    return Coded(stream, data, tuple(decoded))
