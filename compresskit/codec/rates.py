"""From what was asked (a quality, or a target of rate or distortion) to the stream that answers it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from compresskit.codec.coin import architecture
from compresskit.codec.config import QUALITIES, EncodeConfig
from compresskit.codec.distortion import distortion
from compresskit.codec.encoder import Coded, Work, encode_coin, encode_coinpp, encode_plain, guardable
from compresskit.codec.modalities import MODALITIES
from compresskit.codec.settings import COIN_BITS, COIN_BPP, between, ladder
from compresskit.codec.signal import Signal
from compresskit.errors import TargetError, UsageError

# With a guard, the network only predicts what the residual then corrects: which quality makes the whole smallest is found by trying.
GUARDED_QUALITIES = (1, 4)

Attempt = Callable[[float], Coded]
"""The stream of a quality, counted from 0; halves are between two of them."""


def encode_at_target(work: Work, config: EncodeConfig) -> tuple[Coded, TargetError | None]:
    """Encode as `config` asks.

    Returns:
        The stream; and an error that says how near it came, where the target is out of reach: the best stream comes back all the same.

    Raises:
        UsageError: a rate in time is asked for signals that have none.
    """
    if not guardable(work):
        return encode_plain(work), None
    if config.kbps is not None and rate(work.signals[0]) is None:
        raise UsageError("--kbps is for sound: use --bpp")
    limit = size_limit(work.signals, config)
    if limit is not None and work.guard.kind == "none":
        return _at_size(work, config, limit)
    least, attempt = _least_quality(work, config), _attempts(work, config)
    if least is None:  # so few samples are their own best code
        return encode_plain(work), None
    if work.guard.kind != "none":
        tried = [attempt(quality) for quality in sorted({max(least, quality - QUALITIES[0]) for quality in GUARDED_QUALITIES})]
        return min(tried, key=lambda coded: len(coded.data)), None
    if config.psnr is not None:
        return _nearest_psnr(work, attempt, config.psnr, least)
    return attempt(max(least, config.quality - QUALITIES[0])), None


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


def over(coded: Coded, limit: float | None) -> TargetError | None:
    """The error of a stream that has more than `limit` bytes."""
    if limit is None or len(coded.data) <= limit:
        return None
    return TargetError(f"{limit:.0f} bytes are out of reach: {len(coded.data)} is the smallest stream")


def _least_quality(work: Work, config: EncodeConfig) -> int | None:
    """The lowest quality, counted from 0, at which every signal gets a network; None where none does: COIN's have a least size."""
    if work.base is not None:
        return 0
    for quality in range(len(QUALITIES)):
        try:
            for signal in work.signals:
                shape = signal.values.shape
                dims = len(shape) - 2 + (shape[0] > 1)
                architecture(_coin_rate(config, quality) * points(signal), dims, shape[-1], config.bits or COIN_BITS)
        except TargetError:
            continue
        return quality
    return None


def _at_size(work: Work, config: EncodeConfig, limit: float) -> tuple[Coded, TargetError | None]:
    """The nearest stream of at most `limit` bytes: of COIN, a network of just that rate, or of a usual one where headers make it too large."""
    best = None
    for rates in [config, replace(config, bpp=None)] if work.base is None and config.bpp is not None else [config]:
        least = _least_quality(work, rates)
        if least is not None:
            best, failure = _within(_attempts(work, rates), limit, least)
            if failure is None:
                return best, None
    best = best or encode_plain(work)
    return best, over(best, limit)


def _coin_rate(config: EncodeConfig, quality: int) -> float:
    """Bits a point of a COIN network, before entropy coding."""
    return config.bpp or COIN_BPP[quality]


def _attempts(work: Work, config: EncodeConfig) -> Attempt:
    """Encoding at a quality; each is made once."""
    made: dict[object, Coded] = {}
    longest = max(max(signal.values.shape[1:-1]) for signal in work.signals)

    def attempt(quality: float) -> Coded:
        if work.base is None:
            rate_ = _coin_rate(config, int(quality))
            if rate_ not in made:
                made[rate_] = encode_coin(work, [rate_ * points(signal) for signal in work.signals], config.bits or COIN_BITS, config.seed)
            return made[rate_]
        settings = ladder(work.base, config, longest)
        setting = between(work.base, settings[math.floor(quality)], settings[math.ceil(quality)])
        if setting not in made:
            made[setting] = encode_coinpp(work, setting)
        return made[setting]

    return attempt


def _nearest_psnr(work: Work, attempt: Attempt, wanted: float, least: int) -> tuple[Coded, TargetError | None]:
    """The lowest quality or half, `least` or above, that reaches `wanted` dB, by bisection."""
    low, high = 2 * least, 2 * (len(QUALITIES) - 1)
    while low < high:
        middle = (low + high) // 2
        if least_psnr(work, attempt(middle / 2)) >= wanted:
            high = middle
        else:
            low = middle + 1
    best = attempt(low / 2)
    reached = least_psnr(work, best)
    if reached >= wanted:
        return best, None
    return best, TargetError(f"--psnr {wanted:g} is out of reach: {reached:.2f} dB is the nearest; --max-error and --lossless go nearer")


def _within(attempt: Attempt, limit: float, least: int) -> tuple[Coded, TargetError | None]:
    """The highest quality or half, `least` or above, whose stream has at most `limit` bytes, by bisection."""
    low, high = 2 * least, 2 * (len(QUALITIES) - 1)
    while low < high:
        middle = (low + high + 1) // 2
        if len(attempt(middle / 2).data) <= limit:
            low = middle
        else:
            high = middle - 1
    best = attempt(low / 2)
    return best, over(best, limit)
