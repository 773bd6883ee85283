"""Rate and distortion, ours against peers: `python tests/benchmarks/rate_distortion.py --data ../shared/data [--sets kodak ...] [--only peers]`.

Each set's rows go to results/rate_distortion_<set>.json and a drawing of the curves beside it; a run replaces the rows of the kinds that it
makes and keeps the others. Bytes are those of whole files, headers included (the EOF peer has none: eof_peer.py), and ours are those of the
stream, without the base network. Distortion is measured on what the decoded files hold. A row sums bytes and seconds over a set, takes the
mean of PSNR and SNR [dB] over its items, and the largest error.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from codec_peers import Peer, bounded_peers, grid_peers, lossless_peers, picture_peers, slice_peers, sound_peers
from common import RESULTS, heading, write
from eof_peer import eof_peers, training
from PIL import Image
from rate_distortion_plot import draw_curves

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
CIFAR_IMAGES = 500
ERA5_LEVEL = 850  # hPa


@dataclass(frozen=True)
class DataSet:
    """Files to code, and how.

    Attributes:
        inputs: from the data folder and an empty one, the files; what is not there as files is written to the empty one.
        peers: that lose something, for the signals of these files.
        tolerances: largest errors to code within, in the unit of the data.
        archive: whether ours gets all files as one archive.
        coin: qualities at which COIN is run.
    """

    inputs: Callable[[Path, Path], list[Path]]
    peers: Callable[[Path, Sequence[Signal]], Iterable[Peer]]
    tolerances: tuple[float, ...] = ()
    archive: bool = False
    coin: tuple[int, ...] = ()


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
    missed = []
    for group in groups:
        with tempfile.TemporaryDirectory() as scratch:
            stream = Path(scratch) / "coded.coinpp"
            started = time.perf_counter()
            outcome = encode(EncodeRequest(tuple(map(str, group)), str(stream), config, threads=options.threads))
            coded = time.perf_counter()
            restored = decode(DecodeRequest(str(stream), f"{scratch}/restored/", threads=options.threads))
            sums.encode_seconds += coded - started
            sums.decode_seconds += time.perf_counter() - coded
            sums.bytes += stream.stat().st_size
            missed += [str(outcome.failure)] if outcome.failure else []
            for path, output in zip(group, restored.report.outputs, strict=True):
                sums.compare(_signal(path), _signal(Path(output.path)).values)
    guarantee = "lossless" if config.lossless else "none" if config.max_error is None else "max-error"
    row = {"kind": kind, "codec": "COIN" if kind == "coin" else "COIN++ (ours)", "setting": setting, "guarantee": guarantee, **sums.row()}
    return {**row, "missed": missed} if missed else row


def _signal(path: Path) -> Signal:
    return read(path.read_bytes(), path.name)


def our_settings(tested: DataSet) -> Iterator[tuple[str, EncodeConfig]]:
    """Every quality, without loss, and within every tolerance of the set."""
    for quality in QUALITIES:
        yield f"quality {quality}", EncodeConfig(quality=quality)
    yield "lossless", EncodeConfig(lossless=True)
    for tolerance in tested.tolerances:
        yield f"{tolerance:g}", EncodeConfig(max_error=tolerance)


def rows(tested: DataSet, paths: Sequence[Path], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
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
        for setting, config in our_settings(tested):
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


def kodak(data: Path, scratch: Path) -> list[Path]:
    """Those that the shipped base networks have not seen."""
    return [data / "kodak" / f"kodim{number:02d}.png" for number in range(7, 13)]


def cifar(data: Path, scratch: Path) -> list[Path]:
    """The first test images whose pixels are known to be the originals, as PNG files."""
    folder = data / "cifar10"
    with np.load(folder / "labels.npz", allow_pickle=False) as labels:
        chosen = np.flatnonzero(labels["test_lossless"])[:CIFAR_IMAGES]
    strips = [np.array(Image.open(path).convert("RGB")).reshape(-1, 32, 32, 3) for path in sorted(folder.glob("test_*.webp"))[:2]]
    images = np.concatenate(strips)
    paths = [scratch / f"cifar{number:04d}.png" for number in chosen]
    for number, path in zip(chosen, paths, strict=True):
        Image.fromarray(images[number]).save(path)
    return paths


def mri(data: Path, scratch: Path) -> list[Path]:
    """Heads of single subjects."""
    return [data / "mri" / f"{name}.nii.gz" for name in ("M2208_T2w", "T2w_224x224x60", "example4d", "spm_single_subj_T1")]


def speech(data: Path, scratch: Path) -> list[Path]:
    """The two speakers that the shipped base network has not heard."""
    return [path for speaker in (3005, 3080) for path in sorted((data / "speech").glob(f"{speaker}-*.flac"))]


def climate(data: Path, scratch: Path) -> list[Path]:
    """A climate model, a climatology and a reanalysis, of which no field is trained on."""
    with np.load(data / "climate" / "era5_ensemble_t_61x120.npz", allow_pickle=False) as arrays:
        level = int(np.flatnonzero(arrays["level_hPa"] == ERA5_LEVEL)[0])
        fields = {"t": np.ascontiguousarray(arrays["t"][:, :, level]), "lat": arrays["lat"], "lon": arrays["lon"]}
    era5 = scratch / f"era5_ensemble_t{ERA5_LEVEL}.npz"
    np.savez(era5, **fields)
    return [data / "climate" / f"{name}.npz" for name in ("echam_ts_6hourly_2001", "ncep_air_sig995_mon_ltm")] + [era5]


SETS = {
    "kodak": DataSet(kodak, lambda data, signals: picture_peers(), tolerances=(2, 5), coin=(1, 3, 5)),
    "cifar": DataSet(cifar, lambda data, signals: picture_peers(), archive=True),
    "mri": DataSet(mri, lambda data, signals: [*slice_peers(), *grid_peers()], tolerances=(2, 8)),
    "speech": DataSet(speech, lambda data, signals: sound_peers(), tolerances=(8, 64)),
    "climate": DataSet(climate, lambda data, signals: [*slice_peers(), *grid_peers(), *eof_peers(training(data), signals)], tolerances=(0.1, 0.5)),
}


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
        found = []
        for row in rows(SETS[name], paths, options):
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
