"""What a grid of times says of the widths between its points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK = 16  # ONNX Runtime computes in blocks of so many channels, or of half as many
STEPS = 8  # of an axis, but for the widths that layers have


def axis(widths: Iterable[int]) -> tuple[int, ...]:
    """Where to measure: at 1, at the `widths` of layers, and at equal steps of whole or half blocks between."""
    widths = set(widths)
    top = max(widths)
    step = BLOCK // 2 if top <= STEPS * BLOCK // 2 else -(-top // (STEPS * BLOCK)) * BLOCK
    return tuple(sorted({1, *widths, *range(step, top, step)}))


def monotone(ms: np.ndarray) -> np.ndarray:
    """The surface that differs least from `ms` (in its largest difference) of those that fall along no axis.

    Halfway between the maximum of all that is narrower and the minimum of all that is wider: isotonic regression in the supremum norm
    (Robertson, Wright & Dykstra 1988, "Order Restricted Statistical Inference"). That a wider operator was measured faster is noise, or
    a kernel that dislikes a width; a search must not stumble over it.
    """
    most, least = ms, ms
    for side in range(ms.ndim):
        most = np.maximum.accumulate(most, side)
        least = np.flip(np.minimum.accumulate(np.flip(least, side), side), side)
    return (most + least) / 2


@dataclass(frozen=True)
class Stack:
    """Grids of several operators, padded to one size, so that all are read at once.

    Attributes:
        inputs, outputs: (operators, points) widths, ascending; infinity beyond the last.
        ms: (operators, points, points) milliseconds, monotone.
        last: (operators, 2) index of the last cell along each axis.
    """

    inputs: Any
    outputs: Any
    ms: Any
    last: Any

    @classmethod
    def of(cls, grids: Sequence[tuple[Sequence[int], Sequence[int], np.ndarray]]) -> Stack:
        """A stack of NumPy arrays from (inputs, outputs, milliseconds) of each operator."""
        points = max((max(2, *ms.shape) for _, _, ms in grids), default=2)
        axes = np.full((2, len(grids), points), np.inf)
        padded = np.zeros((len(grids), points, points))
        last = np.zeros((len(grids), 2), dtype=np.int64)
        for row, (*widths, ms) in enumerate(grids):
            values = monotone(ms)
            for side, at in enumerate(widths):
                if len(at) == 1:  # flat
                    at, values = (at[0], at[0] + 1), np.repeat(values, 2, axis=side)
                axes[side, row, : len(at)] = at
                last[row, side] = len(at) - 2
            padded[row, : values.shape[0], : values.shape[1]] = values
        return cls(axes[0], axes[1], padded, last)

    def mapped(self, change: Callable[[Any], Any]) -> Stack:
        """The same with other arrays: `torch.from_numpy`, for gradients."""
        return Stack(change(self.inputs), change(self.outputs), change(self.ms), change(self.last))

    def __call__(self, inputs: Any, outputs: Any) -> Any:
        """(operators,) milliseconds at widths (operators,): arrays, or tensors where the stack holds these.

        Bilinear in each cell, and beyond the first and last as in these; the gradient is the slope of the cell (L1/L2 surrogates, appendix B.1).
        """
        rows = list(range(len(self.ms)))
        one, along = _located(self.inputs, self.last[:, 0], rows, inputs)
        two, across = _located(self.outputs, self.last[:, 1], rows, outputs)
        near = self.ms[rows, one, two] * (1 - across) + self.ms[rows, one, two + 1] * across
        far = self.ms[rows, one + 1, two] * (1 - across) + self.ms[rows, one + 1, two + 1] * across
        return near * (1 - along) + far * along


def _located(grid: Any, last: Any, rows: list[int], widths: Any) -> tuple[Any, Any]:
    """The cell of each width along one axis, and how far into it the width lies, from 0 to 1."""
    cell = ((grid <= widths[:, None]).sum(1) - 1).clip(0 * last, last)
    start = grid[rows, cell]
    return cell, (widths - start) / (grid[rows, cell + 1] - start)
