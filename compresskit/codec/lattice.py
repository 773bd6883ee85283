"""Grids of two and more axes, coded from coarse to fine: each sample is predicted from neighbours on both sides.

The grid starts as one sample. Every halving of an axis doubles the samples known: the new ones lie midway between two of the old.

    x . . . x        x . x . x        x . x . x        x x x x x
    . . . . .   -->  . . . . .   -->  . . . . .   -->  . . . . .   --> ...
    . . . . .        . . . . .        x . x . x        x x x x x

A new sample is predicted by a weighted sum of its old neighbours, of the prediction that came from outside, and of the channels before.
Its expected error is a weighted sum too, of differences and errors around it: that is its context. The encoder fits both sums by least
squares and sends the weights. All old samples are known before any new one, so that a block of new ones is a few array operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.contexts import SCALE_BITS, Coder, contexts_of, parameters
from compresskit.codec.regression import WEIGHT_BITS, fit_scale, fit_weights, sum_of, weighted_sum
from compresskit.errors import InputError

Ints = NDArray[np.int64]

_BLOCK = 1 << 14  # samples that share weights
_FIT_FROM = 64  # samples: below, weights cost more than they save
_SCALE_FROM = 128
_CHANNELS_BEFORE = 3  # that predict a channel
_WEIGHT_COST = 12  # bits, about
_BEFORE, _AFTER = 1, 2  # neighbours kept on either side of a block, in steps


@dataclass(frozen=True)
class Halving:
    """One refinement: the samples at `known` are there, those at `new` lie midway between them along `axis`."""

    axis: int
    known: tuple[slice, ...]
    new: tuple[slice, ...]


def choose_order(values: Ints) -> tuple[int, ...]:
    """The axes of the grid `values` (*grid, channels) in the order in which they are best halved.

    The smoothest comes last, when most samples are new.
    """
    grid = values[..., 0].astype(np.float64)
    steps = [1] * grid.ndim
    order: list[int] = []
    while True:
        coarse = grid[tuple(slice(None, None, step) for step in steps)]
        rough = {axis: float(np.abs(np.diff(coarse, axis=axis)).mean()) for axis in range(grid.ndim) if coarse.shape[axis] > 1}
        if not rough:
            return tuple(reversed(order))
        axis = min(rough, key=rough.__getitem__)
        order.append(axis)
        steps[axis] *= 2


def halvings(shape: tuple[int, ...], order: Sequence[int]) -> Iterator[Halving]:
    """The refinements that fill a grid of `shape` from its first sample, halving axes in `order`.

    Raises:
        InputError: `order` leaves gaps, or halves an axis once too often.
    """
    steps = [1 << (size - 1).bit_length() for size in shape]
    if sorted(order) != [axis for axis, step in enumerate(steps) for _ in range(step.bit_length() - 1)]:
        raise InputError("damaged residual: its order of axes does not fill the grid; get a fresh copy")
    for axis in order:
        known = tuple(slice(None, None, step) for step in steps)
        new = tuple(slice(step // 2 if index == axis else 0, None, step) for index, step in enumerate(steps))
        yield Halving(axis, known, new)
        steps[axis] //= 2


def code_grid(coder: Coder, values: Ints, prediction: Ints | None, top: int, order: Sequence[int]) -> None:
    """Code `values` (*grid, channels), in [0, `top`]: read by a writer, filled in by a reader.

    `prediction` (*grid, channels) is known to both; None where it says nothing.

    Raises:
        InputError: `order` does not fill the grid, or the stream is damaged in a way that shows.
    """
    planes = [values[..., channel] for channel in range(values.shape[-1])]
    errors = [np.zeros_like(plane) for plane in planes]
    for channel, plane in enumerate(planes):
        hint = None if prediction is None else prediction[..., channel]
        origin = (0,) * plane.ndim
        guess = 0 if hint is None else int(hint[origin])
        plane[origin] = guess + int(parameters(coder, 1, np.array([plane[origin] - guess]))[0])
        for halving in halvings(plane.shape, order):
            outside = None if hint is None else _Around(hint, halving)
            channels = [_Around(other, halving) for other in planes[max(0, channel - _CHANNELS_BEFORE) : channel]]
            around = _Surroundings(
                own=_Around(plane, halving),
                errors=_Around(errors[channel], halving),
                outside=outside,
                others=[*channels, *([outside] if outside else [])],
                errors_before=errors[channel - 1][halving.new] if channel else None,
            )
            _code_new(coder, around, errors[channel][halving.new], top)


class _Around:
    """A grid around the new samples: known ones next to them by index, new ones at their place.

    The last known sample of an axis stands in for what lies outside.
    """

    def __init__(self, grid: Ints, halving: Halving) -> None:
        self.new = grid[halving.new]
        self.axis = halving.axis
        margins = [(_BEFORE, _AFTER) if axis == halving.axis else (1, 1) for axis in range(grid.ndim)]
        self._known = np.pad(grid[halving.known], margins, mode="edge")

    def at(self, rows: slice, along: int, other: int | None = None, across: int = 0) -> Ints:
        """Known samples of the block `rows`: `along` 0 is just before the new sample, 1 just after it; `across` steps along axis `other`."""
        starts = [1] * self.new.ndim
        starts[self.axis] = _BEFORE + along
        if other is not None:
            starts[other] += across
        starts[0] += rows.start
        sizes = (rows.stop - rows.start, *self.new.shape[1:])
        return self._known[tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))]

    def diagonal(self, rows: slice) -> Iterator[tuple[int, Ints]]:
        """The known samples one step aside of the two nearest, and to which of these two, 0 or 1, they belong."""
        for other in range(self.new.ndim):
            if other != self.axis:
                yield from ((along, self.at(rows, along, other, across)) for along in (0, 1) for across in (-1, 1))


@dataclass(frozen=True)
class _Surroundings:
    """What is known around new samples: of their channel, its errors and its outside prediction.

    `others` are the grids that are known at the new samples too: the channels before, and the outside prediction last.
    """

    own: _Around
    errors: _Around
    outside: _Around | None
    others: Sequence[_Around]
    errors_before: Ints | None


def _code_new(coder: Coder, around: _Surroundings, errors: Ints, top: int) -> None:
    """Code the new samples, block by block along the first axis, and note the magnitudes of their `errors`."""
    new = around.own.new
    step = max(1, _BLOCK * len(new) // max(1, new.size))
    for first in range(0, len(new), step):
        rows = slice(first, min(first + step, len(new)))
        features = _features(around, rows)
        guess = np.clip(_predict(coder, around, rows, features), 0, top)
        error = new[rows] - guess  # the reader's is meaningless, and not read
        contexts = contexts_of(_scale(coder, features, error).reshape(-1))
        error = coder.code(contexts, error.reshape(-1)).reshape(guess.shape)
        new[rows] = guess + error
        errors[rows] = np.abs(error)


def _predict(coder: Coder, around: _Surroundings, rows: slice, features: Sequence[Ints]) -> Ints:
    """Predictions of the block `rows`, by one of a few rules, which the encoder chooses.

    The plain ones are the mean of the two nearest, moved as another grid moves from its own mean there, and the outside prediction
    itself; the last is a fitted sum.
    """
    truth, before, after = around.own.new[rows], around.own.at(rows, 0), around.own.at(rows, 1)
    mean = before + after + 1 >> 1
    near = [before, around.own.at(rows, -1), around.own.at(rows, 2), *(samples for _, samples in around.own.diagonal(rows))]
    plain = [mean]
    for other in around.others:
        near += [other.new[rows], other.at(rows, 0), other.at(rows, 1)]
        plain.insert(0, other.new[rows] + (before - other.at(rows, 0) + after - other.at(rows, 1) + 1 >> 1))
    if around.outside is not None:
        plain.append(around.outside.new[rows])
    if truth.size < _FIT_FROM:
        return plain[0]
    weights, choice = None, 0
    if coder.encoding:
        weights = fit_weights([samples - mean for samples in near], truth - mean, features)
        costs = [_cost(truth - guess) for guess in plain] + [_cost(truth - _weighted(near, weights, mean)) + _WEIGHT_COST * len(near)]
        choice = int(np.argmin(costs))
    choice = int(parameters(coder, 1, np.array([choice]))[0])
    if 0 <= choice < len(plain):
        return plain[choice]
    return _weighted(near, parameters(coder, len(near), weights), mean)


def _weighted(near: Sequence[Ints], weights: Ints, mean: Ints) -> Ints:
    """`mean`, and the weighted differences from it of the samples `near`: a weighted sum whose weights sum to 1."""
    total = weighted_sum([mean, *near], np.append((1 << WEIGHT_BITS) - weights.sum(), weights))
    return total + (1 << WEIGHT_BITS - 1) >> WEIGHT_BITS


def _cost(errors: Ints) -> float:
    """About the bits that `errors` take."""
    return float(np.log2(np.abs(errors) + 0.5).sum())


def _features(around: _Surroundings, rows: slice) -> list[Ints]:
    """What tells the expected errors of the block `rows`: differences between the known samples around it, and errors there."""
    own, errors = around.own, around.errors
    nearest = own.at(rows, 0), own.at(rows, 1)
    features = [
        np.abs(nearest[0] - nearest[1]),
        np.abs(own.at(rows, -1) - nearest[0]) + np.abs(own.at(rows, 2) - nearest[1]),
        errors.at(rows, 0) + errors.at(rows, 1),
        sum_of([np.abs(samples - nearest[side]) for side, samples in own.diagonal(rows)]),
        sum_of([samples for _, samples in errors.diagonal(rows)]),
        np.ones_like(nearest[0]),
    ]
    if around.errors_before is not None:
        features.append(around.errors_before[rows])
    if around.outside is not None:
        features.append(np.abs(around.outside.at(rows, 0) - around.outside.at(rows, 1)))
    return features


def _scale(coder: Coder, features: Sequence[Ints], errors: Ints) -> Ints:
    """The expected magnitudes of a block's `errors`, in units of 2**-SCALE_BITS."""
    weights = np.full(len(features), (1 << SCALE_BITS) // (2 * len(features)))
    if errors.size >= _SCALE_FROM:
        weights = parameters(coder, len(features), fit_scale(features, np.abs(errors), SCALE_BITS) if coder.encoding else None)
    return weighted_sum(features, weights)
