"""Learned rounding: up or down for each weight, such that a layer's outputs change least, in place of the nearest for each by itself.

AdaRound (Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", section 3): roundings h in [0, 1] are relaxed to
rectified sigmoids (equation 23), pressed to 0 or 1 by a regularizer that sharpens with time (equation 24). The error is known in closed form
from the layer's moments, so every step sees all samples and nothing is drawn. The roundings found are then flipped one by one while that lowers
the error. Flips alone choose each output's scale; what is no nearer than with nearest rounding is left to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from compresskit.quantization.moments import LayerError

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Of the scales that cover the largest weights: smaller ones clip these, and are finer for all others."""
STEPS = 400
RATE = 0.03
PRESSURE = 4.0
"""Weight of the regularizer, in units of the error that roundings at random would make."""
_ZETA, _GAMMA = 1.1, -0.1  # what the sigmoid is stretched to, before it is clipped to [0, 1]
_FREE = 0.2  # of the steps, before the regularizer starts
_BETAS = (20.0, 2.0)
_SWEEPS = 50
_BLOCK = 64
_LARGE = 2**31  # products of one step, 400 of which take half a minute; larger layers are flipped only


Rounding: TypeAlias = tuple[np.ndarray, np.ndarray]
"""(G, O, K) integers and (G, O) scales."""


@dataclass(frozen=True)
class _Choices:
    """What each weight may be rounded to.

    Attributes:
        step: (G, O, 1) scales, float64.
        floor: (G, O, K) the lower of the two integers.
        fraction: of the way to the upper one at which the weight lies.
        nearest: of the two.
    """

    step: np.ndarray
    floor: np.ndarray
    fraction: np.ndarray
    nearest: np.ndarray

    @classmethod
    def of(cls, weights: np.ndarray, step: np.ndarray, low: int, high: int) -> _Choices:
        step = step[..., None].astype(np.float64)
        scaled = weights / step
        floor = np.clip(np.floor(scaled), low, high - 1)
        return cls(step, floor, np.clip(scaled - floor, 0, 1), np.clip(np.rint(scaled), low, high))

    @property
    def free(self) -> np.ndarray:
        """Whether there is a choice: not where a weight lies on the grid, or beyond its ends."""
        return (self.fraction > 0) & (self.fraction < 1)


def learn_rounding(weights: np.ndarray, step: np.ndarray, low: int, high: int, layer: LayerError) -> Rounding:
    """The integers to round weights to, and their scales.

    Args:
        weights: (G, O, K) float.
        step: (G, O) float32 scales that cover all weights.
        low, high: the least and the greatest integer.

    Returns:
        (G, O, K) integers next to weights / scale (or at an end), and (G, O) scales, from half of `step` to all of it: `layer.error` of what
        they stand for is at most that of the nearest integers at `step`.
    """
    nearest = _Choices.of(weights, step, low, high).nearest, step
    damped = layer.damped(weights)
    best: Rounding = nearest
    for share in SHARES:
        choices = _Choices.of(weights, (step * np.float32(share)).astype(np.float32), low, high)
        best = _better(best, (_descended(choices.nearest, choices, damped), choices.step[..., 0]), damped)
    if weights.size * weights.shape[2] <= _LARGE:
        choices = _Choices.of(weights, best[1], low, high)
        start = np.where(choices.free, choices.floor + (_relaxed(choices, damped) > 0.5), choices.nearest)
        best = _better(best, (_descended(start, choices, damped), best[1]), damped)
    best = _better(nearest, best, layer)
    return best[0], best[1].astype(np.float32)


def _better(one: Rounding, other: Rounding, layer: LayerError) -> Rounding:
    """The rounding that is nearer to the float network, for each output by itself."""
    errors = [layer.error(integers * step[..., None].astype(np.float64)) for integers, step in (one, other)]
    chosen = errors[1] < errors[0]
    return np.where(chosen[..., None], other[0], one[0]), np.where(chosen, other[1], one[1])


def _relaxed(choices: _Choices, layer: LayerError) -> np.ndarray:
    """(G, O, K) roundings in [0, 1], nearly all at an end, by Adam on their logits."""
    curvature = layer.curvature
    # Roundings that are independent and uniform would make this error a weight.
    unit = np.mean(choices.step**2 * np.diagonal(curvature, axis1=1, axis2=2)[:, None, :]) / 12
    if unit <= 0:
        return choices.fraction
    curvature, pull = (curvature / unit).astype(np.float32), (layer.pull / unit).astype(np.float32)
    floor, step = choices.floor.astype(np.float32), choices.step.astype(np.float32)
    start = np.clip(choices.fraction, 1e-3, 1 - 1e-3).astype(np.float32)
    logits = np.log((start - _GAMMA) / (_ZETA - start))
    momentum, power = np.zeros_like(logits), np.zeros_like(logits)
    rounding = start
    for index in range(STEPS):
        sigmoid = 1 / (1 + np.exp(-logits))
        stretched = sigmoid * (_ZETA - _GAMMA) + _GAMMA
        rounding = np.clip(stretched, 0, 1)
        slope = 2 * step * (((floor + rounding) * step) @ curvature - pull)
        slope += _press(rounding, index / STEPS)
        slope *= (stretched == rounding) * sigmoid * (1 - sigmoid)
        momentum += 0.1 * (slope - momentum)
        power += 0.001 * (slope**2 - power)
        corrected = momentum / (1 - 0.9 ** (index + 1)) / (np.sqrt(power / (1 - 0.999 ** (index + 1))) + 1e-8)
        logits -= RATE * corrected
    return rounding


def _press(rounding: np.ndarray, time: float) -> np.ndarray | float:
    """The regularizer's slope at a fraction of the time: that of 1 - |2h - 1|^beta."""
    if time < _FREE:
        return 0.0
    done = (time - _FREE) / (1 - _FREE)
    beta = _BETAS[1] + (_BETAS[0] - _BETAS[1]) * (1 + np.cos(done * np.pi)) / 2
    side = 2 * rounding - 1
    return -PRESSURE * 2 * beta * np.abs(side) ** (beta - 1) * np.sign(side)


def _descended(integers: np.ndarray, choices: _Choices, layer: LayerError) -> np.ndarray:
    """The integers after flips between floor and floor + 1, input by input, each of which lowers the error, until none is left.

    Blocks of inputs are swept by themselves; what their flips do to the other inputs' slopes is added up once a block.
    """
    curvature, floor, free, scale = layer.curvature, choices.floor, choices.free, choices.step[..., 0]
    integers = integers.copy()
    slope = (integers * choices.step) @ curvature - layer.pull  # half the error's, by what the integers stand for
    for _ in range(_SWEEPS):
        flipped = False
        for start in range(0, integers.shape[2], _BLOCK):
            block = slice(start, start + _BLOCK)
            moved = _sweep(integers[..., block], floor[..., block], free[..., block], scale, slope[..., block].copy(), curvature[:, block, block])
            if moved.any():
                slope += (moved * choices.step) @ curvature[:, block]
                integers[..., block] += moved
                flipped = True
        if not flipped:
            break
    return integers


def _sweep(integers: np.ndarray, floor: np.ndarray, free: np.ndarray, scale: np.ndarray, slope: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """By how much a sweep over a block's inputs moves its integers, each by -1, 0 or 1; `slope` is used up."""
    moved = np.zeros_like(integers)
    for at in range(integers.shape[2]):
        change = np.where(integers[..., at] > floor[..., at], -scale, scale)
        gain = change * (2 * slope[..., at] + change * curvature[:, at, at, None])
        change = np.where(free[..., at] & (gain < 0), change, 0.0)
        if change.any():
            slope += change[..., None] * curvature[:, None, at]
            moved[..., at] = np.rint(change / scale)
    return moved
