"""From what was asked (a quality, or a target of rate or distortion) to the stream that answers it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compresskit.codec.config import QUALITIES, EncodeConfig
from compresskit.codec.distortion import distortion
from compresskit.codec.encoder import Coded, Work, encode_coin, encode_coinpp, encode_plain, guardable
from compresskit.codec.modalities import MODALITIES
from compresskit.codec.settings import COIN_BITS, COIN_BPP, ladder
from compresskit.codec.signal import Signal
from compresskit.errors import TargetError, UsageError

# With a guard, the network only predicts what the residual then corrects: which quality makes the whole smallest is found by trying.
GUARDED_QUALITIES = (1, 4)

Attempt = Callable[[int], Coded]


def encode_at_target(work: Work, config: EncodeConfig) -> tuple[Coded, TargetError | None]:
    """Encode as `config` asks.

    Returns:
        The stream; and an error that says how near it came, where the target is out of reach: the best stream comes back all the same.
    """
    if not guardable(work):
        return encode_plain(work), None
    if config.kbps is not None and rate(work.signals[0]) is None:
        raise UsageError("--kbps is for sound: use --bpp")
    attempt = _attempts(work, config)
    if work.guard.kind != "none":
        tried = [attempt(quality - QUALITIES[0]) for quality in GUARDED_QUALITIES]
        return min(tried, key=lambda coded: len(coded.data)), None
    if config.psnr is not None:
        return _nearest_psnr(work, attempt, config.psnr)
    limit = size_limit(work.signals, config)
    if limit is not None:
        return _within(work, attempt, limit)
    return attempt(config.quality - QUALITIES[0]), None


def rate(signal: Signal) -> float | None:
    """Sample points a second, of sound."""
    return MODALITIES[signal.modality].rate(signal.metadata)


def points(signal: Signal) -> int:
    """Sample points: pixels, voxels, moments of sound."""
    return int(signal.values[..., 0].size)


def size_limit(signals: Sequence[Signal], config: EncodeConfig) -> float | None:
    """The most bytes that --bpp or --kbps allow."""
    if config.bpp is not None:
        return config.bpp * sum(map(points, signals)) / 8
    if config.kbps is not None:
        return config.kbps * 1000 / 8 * sum(points(signal) / (rate(signal) or 1.0) for signal in signals)
    return None


def least_psnr(work: Work, coded: Coded) -> float:
    """PSNR [dB] of the worst signal."""
    found = [distortion(signal, decoded).psnr for signal, decoded in zip(work.signals, coded.decoded, strict=True)]
    return min((value for value in found if value is not None), default=float("inf"))


def _attempts(work: Work, config: EncodeConfig) -> Attempt:
    """Encoding at a quality, counted from 0; each is made once."""
    made: dict[object, Coded] = {}

    def attempt(quality: int) -> Coded:
        if work.base is None:
            rate_ = config.bpp or COIN_BPP[quality]
            if rate_ not in made:
                made[rate_] = encode_coin(work, [rate_ * points(signal) for signal in work.signals], config.bits or COIN_BITS, config.seed)
            return made[rate_]
        setting = ladder(work.base, config)[quality]
        if setting not in made:
            made[setting] = encode_coinpp(work, setting)
        return made[setting]

    return attempt


def _nearest_psnr(work: Work, attempt: Attempt, wanted: float) -> tuple[Coded, TargetError | None]:
    """The lowest quality that reaches `wanted` dB, by bisection."""
    low, high = 0, len(QUALITIES) - 1
    while low < high:
        middle = (low + high) // 2
        if least_psnr(work, attempt(middle)) >= wanted:
            high = middle
        else:
            low = middle + 1
    best = attempt(low)
    reached = least_psnr(work, best)
    if reached >= wanted:
        return best, None
    return best, TargetError(f"--psnr {wanted:g} is out of reach: {reached:.2f} dB is the nearest; --max-error and --lossless go nearer")


def _within(work: Work, attempt: Attempt, limit: float) -> tuple[Coded, TargetError | None]:
    """The highest quality whose stream has at most `limit` bytes, by bisection."""
    low, high = 0, len(QUALITIES) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if len(attempt(middle).data) <= limit:
            low = middle
        else:
            high = middle - 1
    best = attempt(low)
    if len(best.data) <= limit:
        return best, None
    return best, TargetError(f"{limit:.0f} bytes are out of reach: {len(best.data)} is the smallest stream; --method coin may do with fewer")
