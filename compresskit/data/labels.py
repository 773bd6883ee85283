"""Turning stored labels into targets: class numbers, or values to regress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compresskit.errors import InputError
from compresskit.wording import listed


@dataclass(frozen=True)
class Targets:
    """What a model is to predict.

    Attributes:
        values: int64 classes (N,), or (N, ...) for one a pixel; or float32 (N,) or (N, k).
        classes: how many there are; None for regression.
        names: of the classes, where the labels were names.
    """

    values: np.ndarray
    classes: int | None
    names: tuple[str, ...] | None = None


def to_targets(labels: np.ndarray, outputs: int | None, class_names: Sequence[str] | None = None) -> Targets:
    """Targets for a model with `outputs` outputs, from the labels of all splits together.

    Strings are class names: numbered in the order of `class_names` where the model knows its own, else sorted (by value
    when all are integers). Integers are class numbers, in three dimensions or more those of pixels; so are whole floats and
    one-hot rows where the model has several outputs. For a model with one output, numbers are values to regress, and two
    names are 0.0 and 1.0. Other floats are values to regress.

    Raises:
        InputError: labels that are not finite, out of range, of one class only, or that do not fit `outputs`.
    """
    labels = labels[:, 0] if labels.ndim in (2, 4) and labels.shape[1] == 1 else labels  # numbers in a column, maps with a channel axis
    if labels.ndim == 0 or labels.dtype.kind not in ("biufUS" if labels.ndim <= 2 else "biu"):
        raise InputError(f"labels have shape {labels.shape} and dtype {labels.dtype}; expected one class, row of numbers or map of classes a sample")
    if labels.dtype.kind in "US":
        return _from_names(labels, outputs, class_names)
    if not np.isfinite(labels).all():
        raise InputError(f"labels: NaN or infinite at sample {np.argwhere(~np.isfinite(labels))[0][0]}")
    numbers = _class_numbers(labels, outputs)
    if numbers is None:
        return _regression(labels, outputs)
    return Targets(numbers, _count_classes(numbers, outputs), tuple(class_names) if class_names else None)


def _class_numbers(labels: np.ndarray, outputs: int | None) -> np.ndarray | None:
    """The labels as int64 classes, or None when they are to be regressed."""
    if outputs == 1:
        return None
    whole = labels.dtype.kind in "biu" or (outputs is not None and bool((labels == np.floor(labels)).all()))
    if labels.ndim != 2 and whole:
        return labels.astype(np.int64)
    if labels.ndim == 2 and whole and bool(((labels == 0) | (labels == 1)).all()) and bool((labels.sum(1) == 1).all()):
        return labels.argmax(1).astype(np.int64)
    return None


def _count_classes(numbers: np.ndarray, outputs: int | None) -> int:
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or (outputs is not None and high >= outputs):
        expected = f"0 to {outputs - 1}, as the model has {outputs} outputs" if outputs else "no label below 0"
        raise InputError(f"labels run from {low} to {high}; expected {expected}")
    if low == high:
        raise InputError(f"all labels are class {low}; at least two classes are needed")
    return outputs or high + 1


def _regression(labels: np.ndarray, outputs: int | None) -> Targets:
    width = 1 if labels.ndim == 1 else labels.shape[1]
    if outputs is not None and width != outputs:
        raise InputError(f"labels hold {width} value{'s' * (width > 1)} a sample, but the model has {outputs} outputs")
    with np.errstate(over="ignore"):
        values = labels.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError("labels: values beyond the range of float32")
    return Targets(values, None)


def _from_names(labels: np.ndarray, outputs: int | None, class_names: Sequence[str] | None) -> Targets:
    if labels.ndim != 1:
        raise InputError(f"labels are names in shape {labels.shape}; expected one name a sample")
    try:
        text = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
        found, codes = np.unique(text, return_inverse=True)
        names = [str(name) for name in found]
    except (ValueError, SystemError) as error:  # code points that are no characters
        raise InputError("labels: names that are not valid text") from error
    if len(names) < 2:
        raise InputError(f"all labels are {names[0]!r}; at least two classes are needed")
    order = _class_order(names, outputs, class_names)
    number = {name: index for index, name in enumerate(order)}
    values = np.array([number[name] for name in names], np.int64)[codes]
    if outputs == 1:
        return Targets(values.astype(np.float32), None, order)
    return Targets(values, outputs or len(order), order)


def _class_order(names: list[str], outputs: int | None, class_names: Sequence[str] | None) -> tuple[str, ...]:
    if class_names:
        unknown = [name for name in names if name not in class_names]
        if unknown:
            raise InputError(f"class {unknown[0]!r} is not one of the model's: {listed(class_names)}")
        return tuple(class_names)
    expected = 2 if outputs == 1 else outputs
    if expected not in (None, len(names)):
        raise InputError(f"data has {len(names)} classes ({listed(names)}), but the model has {outputs} output{'s' * (outputs != 1)}")
    return tuple(sorted(names, key=int) if all(name.isascii() and name.isdigit() for name in names) else sorted(names))
