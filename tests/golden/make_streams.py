"""Makes the streams that must decode for ever, and index.json with what each decodes to: `python tests/golden/make_streams.py`.

Run once for a version of the format; a stream that is here is never made again. They embed base networks of random weights, so that what
ships can change.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from compresskit.codec.base import Base, save_base
from compresskit.codec.bitstream import pack
from compresskit.codec.chunks import pack_chunk, pack_progressive
from compresskit.codec.coinpp import layout
from compresskit.codec.config import LATENT_BITS, EncodeConfig, EncodeRequest
from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.encoder import digest_of, item_of
from compresskit.codec.modalities import read
from compresskit.codec.neighbours import places
from compresskit.codec.patchcode import CHUNK, PatchCodes, split
from compresskit.codec.pipeline import encode
from compresskit.codec.shelf import named
from compresskit.codec.siren import init, to_integer
from compresskit.codec.stream import BASE_BYTES, CONTEXTS, PROGRESSIVE, Header, Stream

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
IN_CONTEXTS = {"v2-{}-contexts.coinpp": CONTEXTS, "v3-{}-progressive.coinpp": PROGRESSIVE}
BITS, EDGE, ONE_COLOUR = 5, 8, 0.1  # of streams in contexts; the share of patches of one colour


def random_base(name: str, dims: int, channels: int, geometry: str) -> Base:
    """A base network that decodes to something, if not to anything like the signal."""
    generator, draws = torch.Generator().manual_seed(0), np.random.default_rng(0)
    network = to_integer(init(dims, WIDTH, DEPTH, channels, 30.0, generator))
    mapping = draws.integers(-(2**10), 2**10, (DEPTH * WIDTH, LATENTS))
    edges = (8,) * (2 if geometry == "sphere" else dims)
    tables = {bits: np.full((LATENTS, 1 << bits), 2 ** (16 - bits), np.uint32) for bits in LATENT_BITS}
    steps = {bits: 2**18 >> bits for bits in LATENT_BITS}
    encoder = draws.normal(0, 0.1, (8 ** len(edges) * channels, LATENTS)).astype(np.float32)
    centers, spread = np.zeros(LATENTS, np.int64), np.full(LATENTS, 2**15, np.int64)
    return Base(name, geometry, edges, 30.0, network, mapping, 14, centers, spread, steps, tables, encoder, np.zeros(LATENTS, np.float32))


def in_contexts(path: Path, base: Base, version: int) -> bytes:
    """A stream of a version with latents in contexts: drawn, since a random network fits nothing, some patches with larger ones than others."""
    signal = read(path.read_bytes(), path.name)
    item, draws = item_of(signal), np.random.default_rng(0)
    lay = layout(item.shape, item.scale.levels, (EDGE,), signal.axes if item.sphere else ())
    count = lay.patches(base)
    constant = draws.random(count) < ONE_COLOUR
    colours = draws.integers(0, item.scale.levels, (int(constant.sum()), base.channels))
    values = draws.laplace(0, draws.choice([0.3, 5], (count, 1)) / (1 + np.arange(LATENTS)))[~constant]
    symbols = np.clip(np.rint(values), -(1 << BITS - 1), (1 << BITS - 1) - 1).astype(np.int32) + (1 << BITS - 1)
    codes, tables = PatchCodes(constant, colours, symbols), base.tables[BITS]
    size, pack_one = (count, pack_progressive) if version == PROGRESSIVE else (CHUNK, pack_chunk)
    near = [places((0, count), (lay.grid(base),), begin, min(begin + size, count)) for begin in range(0, count, size)]
    chunks = tuple(pack_one(chunk, tables, lying) for chunk, lying in zip(split(codes, size), near, strict=True))
    header = Header("coin++", base.digest[:BASE_BYTES], (EDGE,) * (len(item.shape) - 2), BITS)
    return pack(Stream(header, (item,), chunks, base_file=base.file, version=version))


def described(stream: bytes) -> dict[str, str | int]:
    """What the index says of a stream."""
    samples = digest_of([signal.values for signal in unpacked_signals(stream, None)]).hex()
    return {"samples": samples, "bytes": len(stream), "stream": hashlib.sha256(stream).hexdigest()}


def main() -> None:
    index_file = FOLDER / "index.json"
    index = json.loads(index_file.read_text()) if index_file.exists() else {}
    for source, (path, dims, channels, geometry) in SOURCES.items():
        base = FOLDER / "base.tmp"
        base.write_bytes(save_base(random_base(source, dims, channels, geometry)))
        for way, config in WAYS.items():
            name = f"v1-{source}-{way}.coinpp"
            if name not in index:
                given = None if config.method == "coin" else str(base)
                encode(EncodeRequest((str(path),), str(FOLDER / name), EncodeConfig(**{**vars(config), "base": given}), threads=1))
                index[name] = described((FOLDER / name).read_bytes())
        for pattern, version in IN_CONTEXTS.items():
            name = pattern.format(source)
            if name not in index:
                stream = in_contexts(path, named(str(base)), version)
                (FOLDER / name).write_bytes(stream)
                index[name] = described(stream)
        base.unlink()
    index_file.write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
