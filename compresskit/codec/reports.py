"""What `encode` and `decode` say they did, as data that turns into JSON and back."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.errors import CompresskitError
from compresskit.report import CommandReport


@dataclass(frozen=True)
class Distortion:
    """How far decoded samples are from the original, over samples that are not missing.

    Attributes:
        psnr: [dB] over `peak`; None: no difference at all.
        peak: the range that PSNR refers to, in the unit of the data.
        rmse, max_error: in the unit of the data.
        snr: [dB], of sound; None elsewhere, and where nothing differs.
        weighted_rmse: each sample weighted by the area of its cell, of data on the globe; None elsewhere.
    """

    psnr: float | None
    peak: float
    rmse: float
    max_error: float
    snr: float | None = None
    weighted_rmse: float | None = None


@dataclass(frozen=True)
class ItemReport:
    """One file of a stream.

    Attributes:
        shape: (frames, *spatial, channels).
        distortion: None where there is no original to compare with.
    """

    name: str
    modality: str
    format: str
    dtype: str
    shape: tuple[int, ...]
    distortion: Distortion | None = None


@dataclass(frozen=True)
class StreamInfo:
    """What a stream holds, without decoding it.

    Attributes:
        method: "coin++", "coin" or "plain".
        guard: "none", "max-error" or "lossless", with `tolerance` in the unit of the data.
        bits: of a symbol.
        patch: edges of a patch, () for whole signals.
        base, base_bytes: name (or hash) of the base network and its size; None and 0 where there is none.
        items: the files in it.
        sections: bytes by section; they add up to `bytes`.
        bytes: of the stream.
        points: sample points of all items: pixels, voxels, frames of sound.
        bpp: bits a point, the whole stream counted.
        bpp_with_base: likewise, the base network counted too.
        kbps: of sound; None elsewhere.
        progressive: whether coarse latents of everything come first.
    """

    method: str
    guard: str
    tolerance: float
    bits: float
    patch: tuple[int, ...]
    base: str | None
    base_bytes: int
    items: tuple[ItemReport, ...]
    sections: dict[str, int]
    bytes: int
    points: int
    bpp: float
    bpp_with_base: float
    kbps: float | None = None
    progressive: bool = False


@dataclass(frozen=True, kw_only=True)
class EncodeReport(CommandReport):
    """What one `encode` did.

    Attributes:
        input_bytes: of all inputs as files; `ratio` is that over the stream's bytes.
        deflate_bytes: of all samples, deflated: what a plain coder needs to restore everything.
    """

    stream: StreamInfo
    input_bytes: int
    deflate_bytes: int
    ratio: float
    verified: bool


@dataclass(frozen=True)
class Remains:
    """What there was of a stream that was cut off.

    Attributes:
        latents: the part of them that was there, 0 to 1; means stand for the others.
        guarded: how many items, from the first, are as near to the original as the stream promised; None where it promised nothing.
    """

    latents: float
    guarded: int | None = None


@dataclass(frozen=True, kw_only=True)
class DecodeReport(CommandReport):
    """What one `decode` did.

    Attributes:
        verified: whether the stream's digest of the samples was there, and agreed.
        remains: None for a whole stream.
    """

    stream: StreamInfo
    verified: bool
    remains: Remains | None = None


@dataclass(frozen=True, kw_only=True)
class TrainBaseReport(CommandReport):
    """What one `encode --train-base` did: PSNR [dB] of the training patches by step, and of the finished base network on new ones."""

    curve: tuple[tuple[float, ...], ...]
    psnr: float


@dataclass(frozen=True)
class EncodeOutcome:
    """What a run gives back: as `PruneOutcome`, with the stream for stdout where "-" is the output."""

    report: EncodeReport
    standard_output: bytes | None = None
    failure: CompresskitError | None = None


@dataclass(frozen=True)
class DecodeOutcome:
    """Likewise, with the decoded file for stdout."""

    report: DecodeReport
    standard_output: bytes | None = None
    failure: CompresskitError | None = None
