"""The form in which all data arrives: arrays in three splits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from compresskit.models.graph import Normalization

UNTESTED = "the data have no test split: accuracy was measured on the validation split"
"""What users of such data are told."""


@dataclass(frozen=True)
class Split:
    """Samples and what is to be predicted from them.

    Attributes:
        x: (N, *input_shape), uint8 (pixels, divided by 255 when a batch is made) or float32; not normalized. int64: token ids, which never are.
        y: (N,) int64 classes, or (N, ...) where pixels have one each; or (N,) or (N, k) float32 values to regress.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Dataset:
    """A data set, checked: finite, not empty, equally long, labels in range.

    Attributes:
        train: what weights are fitted to.
        validation: what every choice is made on.
        test: what is measured once, at the end. None where the source brings a validation split but no test split:
            carving one from the training samples would measure the model on samples that it was trained on before.
        normalization: what turns `x` into the model's input.
        normalization_source: where it is from: "checkpoint", "--mean/--std", "computed from N training samples", "as delivered by
            mod:fn" or "none, for token ids".
        classes: their number; None for regression.
        class_names: in the order of the labels, where the source names them.
    """

    train: Split
    validation: Split
    test: Split | None
    normalization: Normalization
    normalization_source: str
    classes: int | None
    class_names: tuple[str, ...] | None = None

    def fingerprint(self) -> str:
        """SHA-256 of the samples and labels of all splits, and of the normalization: the same wherever the data lie."""
        digest = hashlib.sha256(repr(self.normalization).encode())
        for role, split in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            for array in () if split is None else (split.x, split.y):
                digest.update(f"{role} {array.dtype.str} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def normalization_said(self) -> dict[str, Any]:
        """The normalization in force and where it is from, for a report."""
        return {"mean": list(self.normalization.mean), "std": list(self.normalization.std), "source": self.normalization_source}
