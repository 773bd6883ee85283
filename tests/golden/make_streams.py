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
from compresskit.codec.bitstream import VERSION
from compresskit.codec.config import LATENT_BITS, EncodeConfig, EncodeRequest
from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.encoder import digest_of
from compresskit.codec.pipeline import encode
from compresskit.codec.siren import init, to_integer

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
    "quality": EncodeConfig(quality=3, embed_base=True, steps=2),
    "max-error": EncodeConfig(quality=3, embed_base=True, steps=2, max_error=40.0),
    "coin": EncodeConfig(method="coin", bpp=0.3, bits=8, steps=20),
}


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


def main() -> None:
    index_file = FOLDER / "index.json"
    index = json.loads(index_file.read_text()) if index_file.exists() else {}
    for source, (path, dims, channels, geometry) in SOURCES.items():
        base = FOLDER / "base.tmp"
        base.write_bytes(save_base(random_base(source, dims, channels, geometry)))
        for way, config in WAYS.items():
            name = f"v{VERSION}-{source}-{way}.coinpp"
            if name in index:
                continue
            given = None if config.method == "coin" else str(base)
            encode(EncodeRequest((str(path),), str(FOLDER / name), EncodeConfig(**{**vars(config), "base": given}), threads=1))
            signals = list(unpacked_signals((FOLDER / name).read_bytes(), None))
            index[name] = {"samples": digest_of([signal.values for signal in signals]).hex(), "bytes": (FOLDER / name).stat().st_size}
            index[name]["stream"] = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
        base.unlink()
    index_file.write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
