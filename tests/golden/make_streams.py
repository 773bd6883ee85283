"""Makes the streams that must decode for ever, and index.json with what each decodes to: `python tests/golden/make_streams.py`.

Run once for a version of the format; a stream that is here is never made again, nor is what it decodes to. They embed base networks of random
weights, so that what ships can change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from compresskit.codec.base import SYMBOL_BITS, Base, save_base
from compresskit.codec.bitstream import pack
from compresskit.codec.chunks import Frame, SymbolCode, known_of, pack_chunk
from compresskit.codec.coinpp import frame_of, layout
from compresskit.codec.config import HALF_BITS, EncodeConfig, EncodeRequest
from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.encoder import digest_of, item_of
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.latentprior import GUESS_FRACTION, WEIGHT_FRACTION, LatentPrior
from compresskit.codec.latentscan import LAYERED, SHARES
from compresskit.codec.modalities import read
from compresskit.codec.patchcode import Integers, PatchCodes, chunk_size
from compresskit.codec.pipeline import encode
from compresskit.codec.shelf import named
from compresskit.codec.siren import init, to_integer
from compresskit.codec.stream import BASE_BYTES, CONTEXTS, PREDICTED, PROGRESSIVE, Header, Stream

FOLDER = Path(__file__).parent
SAMPLES = FOLDER.parents[1] / "sample_data"
LATENTS, WIDTH, DEPTH = 6, 16, 3
SOURCES = {
    "picture": (SAMPLES / "picture.png", 2, 3, "grid"),
    "sound": (SAMPLES / "tone.wav", 1, 1, "grid"),
    "scan": (SAMPLES / "phantom.nii.gz", 3, 1, "grid"),
    "globe": (SAMPLES / "temperature.npz", 3, 1, "sphere"),
}
WAYS = {
    "coin-lossless": EncodeConfig(method="coin", steps=1, lossless=True),
    "quality": EncodeConfig(quality=3, embed_base=True, steps=2, effort=1, contexts=False),
    "max-error": EncodeConfig(quality=3, embed_base=True, steps=2, effort=1, contexts=False, max_error=40.0),
    "coin": EncodeConfig(method="coin", bpp=0.3, bits=8, steps=20),
}
DRAWN = {"v2-{}-contexts.coinpp": CONTEXTS, "v3-{}-progressive.coinpp": PROGRESSIVE[0]}
BITS, HALVES, EDGE, ONE_COLOUR = 5, 11, 8, 0.1  # of streams whose latents are drawn: of a symbol, and of a predicted latent; the share of one colour

EXPECTING = SOURCES | {"planes": (SAMPLES / "picture.png", 2, 1, "grid")}
"""What base networks that expect something of their latents are made for: patches next to each other in space, of several frames, and planes."""

EXPECTED = {"v4-{}-predicted.coinpp": PREDICTED[0], "v5-{}-predicted-progressive.coinpp": PREDICTED[1]}
MORE_LATENTS = 12
"""Of such base networks, so that progressive streams have several layers."""

REACH = 8.0  # of output weights


def random_base(name: str, dims: int, channels: int, geometry: str) -> Base:
    """A base network with tables that decodes to something, if not to anything like the signal."""
    generator, draws = torch.Generator().manual_seed(0), np.random.default_rng(0)
    network = to_integer(init(dims, WIDTH, DEPTH, channels, 30.0, generator))
    mapping = draws.integers(-(2**10), 2**10, (DEPTH * WIDTH, LATENTS))
    edges = (8,) * (2 if geometry == "sphere" else dims)
    tables = {bits: np.full((LATENTS, 1 << bits), 2 ** (16 - bits), np.uint32) for bits in SYMBOL_BITS}
    steps = {bits: 2**18 >> bits for bits in SYMBOL_BITS}
    encoder = draws.normal(0, 0.1, (8 ** len(edges) * channels, LATENTS)).astype(np.float32)
    known = (np.zeros(LATENTS, np.int64), np.full(LATENTS, 2**15, np.int64), steps)
    return Base(name, geometry, edges, 30.0, network, mapping, 14, *known, None, tables, encoder, np.zeros(LATENTS, np.float32))


def expecting_base(name: str, dims: int, channels: int, geometry: str) -> Base:
    """Likewise a base network that expects something of its latents."""
    generator, draws = torch.Generator().manual_seed(1), np.random.default_rng(1)
    network = to_integer(init(dims, WIDTH, DEPTH, channels, 30.0, generator), output_reach=REACH)
    mapping = draws.integers(-(2**11), 2**11, (channels * (WIDTH + 1), MORE_LATENTS))
    edges = (8,) * (2 if geometry == "sphere" else dims)
    steps = {bits: round(2 ** (18 - bits)) for bits in HALF_BITS}
    centers, spread = draws.integers(-(2**15), 2**15, MORE_LATENTS), np.full(MORE_LATENTS, 2**15, np.int64)
    return Base(name, geometry, edges, 30.0, network, mapping, 14, centers, spread, steps, random_prior(draws, len(edges), channels))


def random_prior(draws: np.random.Generator, axes: int, channels: int) -> LatentPrior:
    """Maps for all sets of axes, of which none looks at all latents or guesses all; guesses are smaller than what they are made of."""
    count, unit, one = MORE_LATENTS, 1 << GUESS_FRACTION, 1 << WEIGHT_FRACTION
    maps = {}
    for which in range(1, 1 << axes):
        rows = 2 * which.bit_count() * (count - 1)
        maps[which] = draws.integers(-unit // rows, unit // rows, (rows, count - 2))
    own, share, near = draws.integers(0, one // 4, (count, count)), draws.integers(one // 2, one, count), draws.integers(0, one // 2, count)
    rest = {bits: draws.integers(0, round(2 ** (bits + 3)), (2, count)) for bits in HALF_BITS}
    return LatentPrior(maps, own, share, near, rest, draws.integers(-(2**16), 2**16, (channels + 1, count)))


def drawn(path: Path, base: Base, version: int) -> bytes:
    """A stream with latents that are drawn, since a random network fits nothing; some patches have larger ones than others."""
    signal = read(path.read_bytes(), path.name)
    item, draws = item_of(signal), np.random.default_rng(0)
    lay = layout(item.shape, item.scale.levels, (EDGE,), signal.axes if item.sphere else ())
    count, progressive = lay.patches(base), version in PROGRESSIVE
    constant = draws.random(count) < ONE_COLOUR
    colours = np.zeros((count, base.channels), np.int64)
    colours[constant] = draws.integers(0, item.scale.levels, (int(constant.sum()), base.channels))
    values = np.rint(draws.laplace(0, draws.choice([0.3, 5], (count, 1)) / (1 + np.arange(base.latents)))).astype(np.int64)
    weights = draws.integers(0, (1 << SHARES) + 1, LAYERED)
    code = (
        LatentCode(base.prior, HALVES / 2, base.steps[HALVES / 2], progressive)
        if base.prior is not None
        else SymbolCode(base.quantizer(BITS), base.tables[BITS], contexts=True, progressive=progressive)
    )
    size, chunks = count if progressive else chunk_size(base), []
    for begin in range(0, count, size):
        part, frame = slice(begin, begin + size), frame_of(base, [lay], (0, count), begin, min(begin + size, count))
        latents = latents_of(code, base, constant[part], colours[part], values[part], weights, frame)
        codes = PatchCodes(constant[part], colours[part][constant[part]], latents)
        chunks.append(pack_chunk(codes, code, base.centers, frame, weights))
    header = Header("coin++", base.digest[:BASE_BYTES], (EDGE,) * (len(item.shape) - 2), HALVES if version in PREDICTED else BITS)
    return pack(Stream(header, (item,), tuple(chunks), base_file=base.file, version=version))


def latents_of(
    code: SymbolCode | LatentCode,
    base: Base,
    constant: NDArray[np.bool_],
    colours: Integers,
    values: Integers,
    weights: Integers,
    frame: Frame,
) -> NDArray[np.int32]:
    """The latents of the patches of a chunk that are not `constant`, for the `values` (P, L) of all; its `colours` are those of all, too."""
    if isinstance(code, SymbolCode):
        return code.latents(np.clip(values[~constant], -code.limit, code.limit - 1))
    known = known_of(code.prior, constant, colours[constant], frame)
    deviations = code.scan(known, weights, lambda rows, band, *_: values[rows, band])[1]
    return (deviations[~constant] + base.centers).astype(np.int32)


def described(stream: bytes) -> dict[str, str | int]:
    """What the index says of a stream."""
    samples = digest_of([signal.values for signal in unpacked_signals(stream, None)]).hex()
    return {"samples": samples, "bytes": len(stream), "stream": hashlib.sha256(stream).hexdigest()}


def add(index: dict[str, dict[str, str | int]], name: str, make: Callable[[], bytes]) -> None:
    """Make a stream that is not here yet."""
    if name not in index:
        stream = make()
        with (FOLDER / name).open("xb") as file:
            file.write(stream)
        index[name] = described(stream)


def encoded(path: Path, config: EncodeConfig, base: Path) -> bytes:
    """A stream as the command makes it; of version 1."""
    given = None if config.method == "coin" else str(base)
    found = encode(EncodeRequest((str(path),), "-", replace(config, base=given), threads=1)).standard_output
    assert found is not None
    return found


def main() -> None:
    index_file = FOLDER / "index.json"
    index = json.loads(index_file.read_text()) if index_file.exists() else {}
    base = FOLDER / "base.tmp"
    for source, (path, *kind) in SOURCES.items():
        base.write_bytes(save_base(random_base(source, *kind)))
        for way, config in WAYS.items():
            add(index, f"v1-{source}-{way}.coinpp", partial(encoded, path, config, base))
        for pattern, version in DRAWN.items():
            add(index, pattern.format(source), partial(drawn, path, named(str(base)), version))
    base.unlink()
    for source, (path, *kind) in EXPECTING.items():
        for pattern, version in EXPECTED.items():
            add(index, pattern.format(source), partial(drawn, path, expecting_base(source, *kind), version))
    index_file.write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
