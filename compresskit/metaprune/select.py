"""Which epoch of meta-training to keep: the one whose networks can be cut furthest before their accuracy falls.

The longer a metanetwork was trained, the longer the flat part of the curves of its networks, and the lower ("Meta Pruning via Graph
Metanetworks", section 5.3). So the last epoch whose flat part is high enough is looked for by bisection, as the paper does by eye.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from compresskit.metaprune.reports import CurvePoint, Judged


def flat_part(curve: Sequence[CurvePoint], least: float) -> float:
    """The speed-up at which a curve first falls below `least`, on the straight line between two of its points; 1 where it never is above.

    A curve that stays above all along ends where its last point is.
    """
    if not curve or curve[0].accuracy < least:
        return 1.0
    for before, after in itertools.pairwise(curve):
        if after.accuracy < least:
            share = (before.accuracy - least) / (before.accuracy - after.accuracy)
            return before.speedup + share * (after.speedup - before.speedup)
    return curve[-1].speedup


def select(epochs: int, curve_of: Callable[[int], tuple[CurvePoint, ...]], least: float) -> tuple[Judged, ...]:
    """Judge about log2(`epochs`) epochs of 1 to `epochs`: those that bisection meets, in their order.

    Args:
        curve_of: makes a network with the metanetwork of an epoch, and its curve on validation data.
        least: accuracy that the flat part keeps.
    """
    judged, low, high = [], 1, epochs
    while low <= high:
        epoch = (low + high) // 2
        curve = curve_of(epoch)
        judged.append(Judged(epoch, curve[0].accuracy, flat_part(curve, least), curve))
        low, high = (epoch + 1, high) if curve[0].accuracy >= least else (low, epoch - 1)
    return tuple(judged)


def best(judged: Sequence[Judged]) -> Judged:
    """The one with the longest flat part; of equals the most accurate."""
    return max(judged, key=lambda one: (one.flat, one.accuracy))
