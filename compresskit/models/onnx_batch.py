"""Freeing the batch that a file bakes into its shapes.

Exporters write `Reshape(x, [1, 58, 2, 44, 44])` where the model said `x.view(batch, 58, 2, 44, 44)`. Which number was the batch can only be
guessed; the importer keeps a guess that gives, for a batch of samples, what each sample gives alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compresskit.models.onnx_ops.values import Size, axis_of
from compresskit.models.onnx_plan import Step, Weight


def rebatched(step: Step, arguments: list[Any], baked: int, batch: Size) -> list[Any]:
    """The arguments of `step` with the batch `baked` into the file replaced by the one that runs.

    Args:
        arguments: values of the step's arguments, in a run of the batch `batch`.
    """
    if step.node.op in ("Reshape", "Expand") and isinstance(arguments[0], Tensor) and isinstance(step.arguments[1], np.ndarray):
        return [arguments[0], _reshaped(step, arguments[0], arguments[1], baked, batch)]
    if step.node.op == "Concat" and baked == 1 and axis_of(step.node.get("axis"), arguments[0].ndim) != 0:
        return _joined(step, arguments, batch)
    return arguments


def _reshaped(step: Step, x: Tensor, target: np.ndarray, baked: int, batch: Size) -> np.ndarray:
    for axis, (old, new) in enumerate(zip(step.shape, x.shape, strict=True)):
        if _differ(old, new):  # the axis that carries the batch
            if step.node.op == "Reshape":
                return retarget(target, step.shape, axis, baked, batch)
            return _widened(target, axis - x.ndim, old, new)
    return target


def _joined(step: Step, values: list[Any], batch: Size) -> list[Any]:
    """What is concatenated, with the module's own tensors (a class token) repeated over the batch that the others have."""
    if not any(_differ(1, value.shape[0]) for value in values):
        return values
    own = [isinstance(argument, Weight) and value.shape[0] == 1 for argument, value in zip(step.arguments, values, strict=True)]
    return [value.expand(batch, *value.shape[1:]) if mine else value for value, mine in zip(values, own, strict=True)]


def _differ(old: int, new: Size) -> bool:
    return isinstance(new, torch.SymInt) or old != new


def retarget(target: np.ndarray, shape: tuple[int, ...], carrier: int, baked: int, batch: Size) -> np.ndarray:
    """A reshape's target for another batch, which axis `carrier` of the input (of shape `shape` in the file) carries.

    Reshaping keeps the order of entries, so the batch goes to a size with about as many entries before it as in the input:
    to one that is the batch itself, else to the first, though never to the last axis, which holds features.

    >>> retarget(np.array([65, 3, 64]), (65, 1, 192), 1, 1, 2)  # heads join the batch
    array([65, -1, 64], dtype=object)
    >>> retarget(np.array([65, 1, 192]), (65, 192), 0, 1, 2)  # the batch leaves the tokens
    array([65, 2, 192], dtype=object)
    """
    entries: list[Any] = target.tolist()
    least = math.prod(shape[:carrier])
    near = [place for place in range(len(entries)) if least <= math.prod(entries[:place]) <= least * shape[carrier]]
    exact = [place for place in near if entries[place] == baked]
    place = next(iter(exact or near), None)
    if place is not None and not exact and 0 < place == len(entries) - 1:
        place -= 1
    if place is None or entries[place] < 1:
        return target
    if entries[place] == baked:
        entries[place] = batch
    else:
        entries[place] = entries[place] * batch // baked if -1 in entries else -1
    return np.array(entries, dtype=object)


def _widened(target: np.ndarray, place: int, old: int, new: Size) -> np.ndarray:
    """An expansion's target with the size at `place` (from the end) following the batch, if it is the batch."""
    entries = target.astype(object)
    if -place <= entries.size and entries[place] == old:
        entries[place] = new
    return entries
