"""Signals along one axis, coded by linear prediction from the samples before.

Prediction is sequential, and numpy is fast only over many samples at once: the signal is cut into lanes, and all lanes run side by side.

    lane 0:  frame 0 | frame 1 | ...       one step decodes a sample of every lane; a frame is a stretch of a lane
    lane 1:  frame 0 | frame 1 | ...       with weights of its own, which the encoder fits and sends

The errors of all lanes are coded first, a few steps at once; their contexts are the errors just before. Then the samples follow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.contexts import SCALE_BITS, Coder, contexts_of, parameters
from compresskit.codec.regression import WEIGHT_BITS, fit_scale, fit_weights, sum_of, weighted_sum

Ints = NDArray[np.int64]

_LANE = 4096
_FRAME = 1024
_ORDER = 20
_FIT_FROM = 64  # samples: below, weights cost more than they save
_AT_ONCE = 16  # steps whose errors are coded together
_WINDOWS = (4, 16, 48)  # steps of errors that make a context
_CHANNELS_BEFORE = 1  # that predict a channel
_HALF = 1 << WEIGHT_BITS - 1


def code_line(coder: Coder, values: Ints, prediction: Ints | None, top: int) -> None:
    """Code `values` (samples, channels), in [0, `top`]: read by a writer, filled in by a reader.

    `prediction` (samples, channels) is known to both; None where it says nothing.
    """
    lanes = -(-len(values) // _LANE)
    before = np.zeros((0, lanes, -(-len(values) // lanes)), dtype=np.int64)
    for channel in range(values.shape[-1]):
        middle = int(parameters(coder, 1, np.array([np.rint(values[:, channel].mean()).astype(np.int64)]))[0])
        helpers = [values[:, other] for other in range(max(0, channel - _CHANNELS_BEFORE), channel)]
        helpers += [] if prediction is None else [prediction[:, channel]]
        windows = [_lanes(helper - middle, lanes) for helper in helpers]
        nearby = [shifted for window in windows for shifted in (_later(window, 1), window, _later(window, -1))]
        truth = _lanes(values[:, channel] - middle, lanes)
        weights = _code_weights(coder, truth, nearby)
        outside = _outside(nearby, weights)
        errors = truth - np.clip(_guess(truth, weights, outside), -middle, top - middle) if coder.encoding else np.zeros_like(truth)
        _code_errors(coder, errors, before)
        if not coder.encoding:
            _restore(truth, errors, weights, outside, (-middle, top - middle))
            values[:, channel] = truth.reshape(-1)[: len(values)] + middle
        before = np.abs(errors)[None]


def _lanes(samples: Ints, lanes: int) -> Ints:
    """`samples` (N,) as rows (lanes, steps), the last filled up with zeros."""
    return np.pad(samples, (0, -len(samples) % lanes)).reshape(lanes, -1)


def _later(rows: Ints, steps: int) -> Ints:
    """`rows` (lanes, steps) moved by `steps` to the right, zeros moving in."""
    length = rows.shape[1]
    return np.pad(rows, ((0, 0), (max(steps, 0), max(-steps, 0))))[:, max(-steps, 0) :][:, :length]


def _code_weights(coder: Coder, truth: Ints, nearby: Sequence[Ints]) -> Ints:
    """Weights (frames, `_ORDER` + len(`nearby`), lanes) of the samples before and of those `nearby`."""
    lanes, length = truth.shape
    past = [_later(truth, steps) for steps in range(1, _ORDER + 1)] if coder.encoding else []
    weights = np.zeros((-(-length // _FRAME), _ORDER + len(nearby), lanes), dtype=np.int64)
    weights[:, 0] = 1 << WEIGHT_BITS
    for frame, lane in np.ndindex(len(weights), lanes):
        stretch = (lane, slice(frame * _FRAME, (frame + 1) * _FRAME))
        if truth[stretch].size >= _FIT_FROM:
            fitted = fit_weights([rows[stretch] for rows in (*past, *nearby)], truth[stretch]) if coder.encoding else None
            weights[frame, :, lane] = parameters(coder, weights.shape[1], fitted)
    return weights


def _outside(nearby: Sequence[Ints], weights: Ints) -> Ints | int:
    """The share (lanes, steps) of a guess that does not depend on the samples before, with the rounding."""
    if not nearby:
        return _HALF
    return sum_of([rows * _spread(weights[:, _ORDER + index], rows.shape[1]) for index, rows in enumerate(nearby)]) + _HALF


def _guess(truth: Ints, weights: Ints, outside: Ints | int) -> Ints:
    """The predictions of all samples of `truth` (lanes, steps), all of them known."""
    past = [_later(truth, steps) * _spread(weights[:, steps - 1], truth.shape[1]) for steps in range(1, _ORDER + 1)]
    return sum_of(past) + outside >> WEIGHT_BITS


def _spread(weights: Ints, steps: int) -> Ints:
    """Weights (frames, lanes) for each sample: (lanes, `steps`)."""
    return np.repeat(weights, _FRAME, axis=0)[:steps].T


def _restore(truth: Ints, errors: Ints, weights: Ints, outside: Ints | int, bounds: tuple[int, int]) -> None:
    """Fill `truth` (lanes, steps) from its `errors`, step by step, all lanes at once."""
    lanes, length = truth.shape
    history = np.zeros((_ORDER + length, lanes), dtype=np.int64)  # the step first, so that every step is one stretch of memory
    shares = np.broadcast_to(outside, truth.shape).T
    for step in range(length):
        latest_last = weights[step // _FRAME, _ORDER - 1 :: -1]
        guess = (history[step : step + _ORDER] * latest_last).sum(axis=0) + shares[step] >> WEIGHT_BITS
        history[_ORDER + step] = np.clip(guess, *bounds) + errors[:, step]
    truth[:] = history[_ORDER:].T


def _code_errors(coder: Coder, errors: Ints, before: Ints) -> None:
    """Code `errors` (lanes, steps): read by a writer, filled in by a reader. `before` (1 or none, lanes, steps): of the channel before, positive."""
    lanes, length = errors.shape
    stretches = [slice(start, min(start + _AT_ONCE, length)) for start in range(0, length, _AT_ONCE)]
    smooth = [sum_of([_later(rows, steps) for steps in range(-4, 5)]) for rows in before]
    sizes = np.abs(errors)
    weights = np.full(len(_WINDOWS) + 1 + len(smooth), (1 << SCALE_BITS) // 64)
    if errors.size >= 4 * _FIT_FROM:
        fitted = None
        if coder.encoding:
            parts = [_features(sizes, stretch, smooth) for stretch in stretches]
            fitted = fit_scale([np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)], sizes, SCALE_BITS)
        weights = parameters(coder, len(weights), fitted)
    for stretch in stretches:
        contexts = contexts_of(weighted_sum(_features(sizes, stretch, smooth), weights).reshape(-1))
        errors[:, stretch] = coder.code(contexts, errors[:, stretch].reshape(-1)).reshape(lanes, -1)
        sizes[:, stretch] = np.abs(errors[:, stretch])


def _features(sizes: Ints, stretch: slice, smooth: Sequence[Ints]) -> list[Ints]:
    """What tells the expected error of the steps of `stretch`, (lanes, steps) each: errors just before, and of the channel before around it."""
    shape = (len(sizes), stretch.stop - stretch.start)
    sums = [sizes[:, max(0, stretch.start - window) : stretch.start].sum(axis=1, keepdims=True) for window in _WINDOWS]
    return [np.broadcast_to(feature, shape) for feature in [*sums, np.ones((1, 1), dtype=np.int64)]] + [rows[:, stretch] for rows in smooth]
