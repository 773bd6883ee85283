"""Rate and distortion, ours against peers: `python tests/benchmarks/rate_distortion.py --data ../shared/data [--sets kodak ...] [--only peers]`.

Each set's rows go to results/rate_distortion_<set>.json and a drawing of the curves beside it; a run replaces the rows of the kinds that it
makes and keeps the others. Bytes are those of whole files, headers included (the EOF peer has none: eof_peer.py), and ours are those of the
stream, without the base network. Distortion is measured on what the decoded files hold. A row sums bytes and seconds over a set, takes the
mean of PSNR and SNR [dB] over its items, and the largest error.

The set "archive" follows the thesis's protocol for ERA5 (section 5.3.4, appendix C.3.4): a base network that --train-base makes of the earlier
times of an archive, tested on the later ones. Its rows also say what the base network adds to the rate, and what the latents alone take.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from codec_peers import Peer, bounded_peers, lossless_peers
from common import RESULTS, heading, write
from rate_distortion_plot import draw_curves
from rate_distortion_sets import SETS, DataSet

from compresskit.codec.config import QUALITIES, DecodeRequest, EncodeConfig, EncodeRequest
from compresskit.codec.decoding import decode
from compresskit.codec.distortion import distortion
from compresskit.codec.modalities import read
from compresskit.codec.modalities.audio import AudioMetadata
from compresskit.codec.pipeline import encode
from compresskit.codec.signal import Signal
from compresskit.errors import CompresskitError
from compresskit.runtime import set_threads

KINDS = ("ours", "peers", "coin")


@dataclass
class Sums:
    """What a row adds up from one item after another."""

    bytes: int = 0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    points: int = 0
    sound_seconds: float = 0.0
    psnr: list[float | None] = field(default_factory=list)
    snr: list[float | None] = field(default_factory=list)
    max_error: float = 0.0

    def compare(self, signal: Signal, decoded: np.ndarray) -> None:
        """Add how far `decoded` is from `signal`, and its points to those that the bytes are divided by."""
        found = distortion(signal, decoded)
        self.psnr.append(found.psnr)
        self.snr.append(found.snr)
        self.max_error = max(self.max_error, found.max_error)
        self.points += signal.values.size // signal.values.shape[-1]
        if signal.modality == "audio":
            self.sound_seconds += signal.values.shape[1] / AudioMetadata.unpack(signal.metadata).rate

    def row(self) -> dict[str, Any]:
        rate = {"kbps": round(self.bytes * 8 / self.sound_seconds / 1000, 3)} if self.sound_seconds else {}
        return {
            "bytes": self.bytes,
            "bpp": round(self.bytes * 8 / self.points, 5),
            **rate,
            "psnr": _mean(self.psnr),
            **({"snr": _mean(self.snr)} if self.sound_seconds else {}),
            "max_error": round(self.max_error, 6),
            "encode_seconds": round(self.encode_seconds, 3),
            "decode_seconds": round(self.decode_seconds, 3),
        }


def _mean(decibels: Sequence[float | None]) -> float | None:
    """Of the items that differ at all; None where none does."""
    finite = [value for value in decibels if value is not None]
    return round(math.fsum(finite) / len(finite), 3) if finite else None


def measure_peer(peer: Peer, signals: Sequence[Signal]) -> dict[str, Any]:
    """One row."""
    sums = Sums()
    for signal in signals:
        started = time.perf_counter()
        files = peer.encode(signal)
        coded = time.perf_counter()
        decoded = peer.decode(files, signal)
        sums.encode_seconds += coded - started
        sums.decode_seconds += time.perf_counter() - coded
        sums.bytes += peer.size(files, signal)
        sums.compare(signal, decoded)
    return {"kind": "peers", "codec": peer.codec, "setting": peer.setting, "guarantee": peer.guarantee, **sums.row()}


def measure_ours(kind: str, setting: str, config: EncodeConfig, groups: Sequence[Sequence[Path]], options: argparse.Namespace) -> dict[str, Any]:
    """One row: every group of files is a stream, which is decoded to files that are read again."""
    sums = Sums()
    missed, latents = [], 0
    for group in groups:
        with tempfile.TemporaryDirectory() as scratch:
            stream = Path(scratch) / "coded.coinpp"
            started = time.perf_counter()
            outcome = encode(EncodeRequest(tuple(map(str, group)), str(stream), config, threads=options.threads))
            coded = time.perf_counter()
            restored = decode(DecodeRequest(str(stream), f"{scratch}/restored/", base=config.base, threads=options.threads))
            sums.encode_seconds += coded - started
            sums.decode_seconds += time.perf_counter() - coded
            sums.bytes += stream.stat().st_size
            latents += outcome.report.stream.sections.get("chunks", 0)
            missed += [str(outcome.failure)] if outcome.failure else []
            for path, output in zip(group, restored.report.outputs, strict=True):
                sums.compare(_signal(path), _signal(Path(output.path)).values)
    guarantee = "lossless" if config.lossless else "none" if config.max_error is None else "max-error"
    row = {"kind": kind, "codec": "COIN" if kind == "coin" else "COIN++ (ours)", "setting": setting, "guarantee": guarantee, **sums.row()}
    if config.base is not None:
        with_base = sums.bytes + Path(config.base).stat().st_size
        row |= {"bpp_of_latents": round(latents * 8 / sums.points, 5), "bpp_with_base": round(with_base * 8 / sums.points, 5)}
    return {**row, "missed": missed} if missed else row


def _signal(path: Path) -> Signal:
    return read(path.read_bytes(), path.name)


def our_settings(tested: DataSet, base: Path | None) -> Iterator[tuple[str, EncodeConfig]]:
    """Every quality, without loss, and within every tolerance of the set."""
    common = EncodeConfig(base=None if base is None else str(base))
    for quality in QUALITIES:
        yield f"quality {quality}", replace(common, quality=quality)
    yield "lossless", replace(common, lossless=True)
    for tolerance in tested.tolerances:
        yield f"{tolerance:g}", replace(common, max_error=tolerance)


def rows(tested: DataSet, paths: Sequence[Path], base: Path | None, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All rows of a set, of the kinds asked for. What a codec refuses is told and left out."""
    signals = [_signal(path) for path in paths]
    groups = [paths] if tested.archive else [[path] for path in paths]
    makers: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    if "peers" in options.only:
        modality = signals[0].modality
        peers = [*tested.peers(options.data, signals), *lossless_peers(modality)]
        peers += [peer for tolerance in tested.tolerances for peer in bounded_peers(modality, tolerance)]
        makers += [(f"{peer.codec} {peer.setting}", lambda peer=peer: measure_peer(peer, signals)) for peer in peers]
    if "ours" in options.only:
        for setting, config in our_settings(tested, base):
            makers.append((setting, lambda setting=setting, config=config: measure_ours("ours", setting, config, groups, options)))
    if "coin" in options.only:
        for quality in tested.coin:
            config = EncodeConfig(method="coin", quality=quality)
            makers.append((f"COIN {quality}", lambda config=config: measure_ours("coin", f"quality {config.quality}", config, groups, options)))
    for name, make in makers:
        try:
            yield make()
        except CompresskitError as error:
            print(f"{name}: {error}", file=sys.stderr)


def table(found: Iterable[dict[str, Any]]) -> str:
    """Rows as aligned lines: curves by codec, then what is guaranteed, each guarantee by size."""
    order = ("none", "max-error", "lossless")
    lines = []
    for row in sorted(
        found, key=lambda row: (order.index(row["guarantee"]), row["codec" if row["guarantee"] == "none" else "setting"], row["bytes"])
    ):
        rate = f"{row['kbps']:9.2f} kbps" if "kbps" in row else f"{row['bpp']:9.4f} bpp"
        psnr = "   exact" if row["psnr"] is None else f"{row['psnr']:5.2f} dB"
        snr = f"  SNR {row['snr']:5.2f} dB" if row.get("snr") is not None else ""
        what = f"{row['guarantee']:10}{row['codec']:15}{row['setting']:34}"
        lines.append(f"{what}{row['bytes']:>10} bytes {rate} {psnr}{snr}  error {row['max_error']:g}")
    return "\n".join(lines)


def run(name: str, options: argparse.Namespace, threads: int) -> None:
    """Measure one set, and keep and draw what was found."""
    path = options.output / f"rate_distortion_{name}.json"
    kept = [row for row in json.loads(path.read_text())["rows"] if row["kind"] not in options.only] if path.exists() else []
    with tempfile.TemporaryDirectory() as scratch:
        paths = SETS[name].inputs(options.data, Path(scratch))[: options.items]
        trainer = SETS[name].base
        base = trainer(options.data, Path(scratch)) if trainer is not None and "ours" in options.only else None
        found = []
        for row in rows(SETS[name], paths, base, options):
            found.append(row)
            print(table([row]), file=sys.stderr, flush=True)
    items = [item.name for item in paths]
    result = {**heading(threads, "imagecodecs", "soundfile", "pillow"), "items": items if len(items) < 50 else len(items), "rows": kept + found}
    write(path, result)
    draw_curves(name, result["rows"], path.with_suffix(".png"))
    print(f"{name}\n{table(result['rows'])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--only", nargs="+", choices=KINDS, default=["ours", "peers"])
    parser.add_argument("--items", type=int, help="of each set, the first so many: to try it out, with --output elsewhere")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=1, help="of ours; peers have one")
    options = parser.parse_args()
    threads = set_threads(options.threads)
    for name in options.sets:
        run(name, options, threads)


if __name__ == "__main__":
    main()
