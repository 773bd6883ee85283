"""From gates to one width a layer: the assignment nearest to what was learned that hits the target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compresskit.quantization.bitwidths.cost import WIDTHS, WidthCost

TOLERANCE = 0.02  # of the target, on its lower side: more than was asked for is never used
BINS = 2048
_ROUNDING = 1e-9  # of a float64 sum


@dataclass(frozen=True)
class _Partial:
    """Widths of the first weights: how far they moved from what was learned, what they cost, and their indices in `WIDTHS`."""

    moved: float
    cost: float
    chosen: tuple[int, ...]


def learned_widths(mask: np.ndarray) -> np.ndarray:
    """(weights,) the index in `WIDTHS` that gates (weights, 2) say; a wider gate behind a closed one is closed too."""
    opened = mask > 0
    return np.where(opened[:, 0], 1 + opened[:, 1], 0).astype(np.int64)


def nearest_widths(cost: WidthCost, learned: np.ndarray, goal: float) -> dict[str, int]:
    """Widths by name that cost at most `goal` (a fraction), and at least 98% of it where whole layers allow that, else as much as they allow.

    Of those, the ones that move fewest bytes or operations from what was `learned` (indices in `WIDTHS`). By dynamic programming over the
    layers; of the beginnings whose costs are alike to a 2048th of the goal, the nearest is kept.
    """
    limit = goal * cost.whole * (1 + _ROUNDING)
    best = {0: _Partial(0.0, 0.0, ())}
    for row, now in enumerate(learned):
        prices, least = cost.table[row], float(cost.table[row + 1 :, 0].sum())
        found: dict[int, _Partial] = {}
        for partial in best.values():
            for index, price in enumerate(prices.tolist()):
                total = partial.cost + price
                place, moved = int(total / limit * BINS), partial.moved + abs(price - float(prices[now]))
                if total + least <= limit and (place not in found or moved < found[place].moved):
                    found[place] = _Partial(moved, total, (*partial.chosen, index))
        best = found
    ends = best.values()
    close = [end for end in ends if end.cost >= (1 - TOLERANCE) * limit]
    end = min(close, key=lambda one: one.moved) if close else max(ends, key=lambda one: one.cost)
    return {name: WIDTHS[index] for name, index in zip(cost.names, end.chosen, strict=True)}
