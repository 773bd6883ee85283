"""load_data: from whatever `--data` names to checked arrays in three splits.

```
 text ─► Request ─► Source.read ─► Raw ─► shape, dtype, labels ─► Splits ─► normalization ─► Dataset
                    (SOURCES)             (layout, labels)        (splitting)
```
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from compresskit.data import code, idx, images, npy, npz, table, texts  # noqa: F401  (they register themselves)
from compresskit.data.dataset import Dataset, Split
from compresskit.data.files import head
from compresskit.data.labels import Targets, to_targets
from compresskit.data.layout import channel_axis, shape_samples
from compresskit.data.limits import DEFAULT_LIMITS, Budget, Limits
from compresskit.data.normalization import choose_normalization, normalize
from compresskit.data.source import SOURCES, Pair, Raw, Request
from compresskit.data.splitting import hold_out
from compresskit.errors import InputError, UsageError
from compresskit.models.graph import Normalization
from compresskit.progress import SILENT, Progress
from compresskit.requests import parse_location

_ODD_SCALE = 20.0


def load_data(
    source: str | Path,
    *,
    input_shape: tuple[int, ...],
    outputs: int | None = None,
    normalization: Normalization | None = None,
    checkpoint_normalization: Normalization | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    label_column: str | None = None,
    vocabulary: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = SILENT,
) -> Dataset:
    """Load a data set for a model.

    Args:
        source: `.npz`, `x.npy,y.npy`, IDX files or a folder of either, a folder of images by class, `csv`, `tsv`,
            `package.module:function` or `file.py:function`; for a model that takes token ids, `tsv` with texts. See the modules of
            this package for each.
        input_shape: of one sample, as the model takes it.
        outputs: of the model: the number of classes, or of values to regress.
        normalization: what the user says; it wins over the checkpoint's, which wins over what the training samples give.
        checkpoint_normalization: what the model says.
        class_names: of the model's outputs, where it says.
        seed: of the choice of samples to hold out.
        validation_fraction: of the training samples, where the source has no validation split; of all samples, for
            validation and for test each, where it has no splits at all.
        label_column: of a table; by default the one called label, target, class or y, else the last.
        vocabulary: how many token ids the model knows (`vocabulary_size`); None: it takes numbers.
        limits: on what is read.

    Raises:
        InputError: missing, unreadable, damaged or over a limit, or it does not fit the model.
        UsageError: a normalization or fraction that cannot be.
    """
    if not 0 < validation_fraction < 0.5:
        raise UsageError(f"the validation fraction must be between 0 and 0.5, got {validation_fraction}")
    text = str(source)
    paths, names = parse_location(text)
    request = Request(text, paths, names, tuple(input_shape), Budget(limits), label_column, progress, vocabulary)
    raw = _read(request)
    pairs = {name: pair for name in ("train", "validation", "test") if (pair := getattr(raw, name)) is not None}
    targets = _targets(pairs, text, outputs, class_names)
    splits = dict(zip(pairs, _to_splits(pairs, targets, request), strict=True))
    train, validation, test = _three_splits(splits, seed, validation_fraction)
    chosen, origin = choose_normalization(train.x, normalization, checkpoint_normalization, text if raw.prepared else None)
    if chosen in (normalization, checkpoint_normalization):
        _note_odd_scale(train.x, chosen, text, progress)
    return Dataset(train, validation, test, chosen, origin, targets.classes, targets.names)


def sample_shape(source: str | Path, *, label_column: str | None = None, limits: Limits = DEFAULT_LIMITS) -> tuple[int, ...]:
    """The shape of one sample of `source`, channels first, for work that no model is there for.

    Raises:
        InputError: as `load_data`; files of images, which have the size that a model asks for.
    """
    text = str(source)
    paths, names = parse_location(text)
    shape = _read(Request(text, paths, names, (), Budget(limits), label_column, SILENT)).train.x.shape[1:]
    return shape if channel_axis(shape) == 0 else (shape[-1], *shape[:-1])


def _read(request: Request) -> Raw:
    for source in SOURCES.values():
        if source.matches(request):
            return source.read(request)
    if request.file and not head(request.file, 1):
        raise InputError(f"{request.file}: is empty")
    raise InputError(f"{request.text}: not a data set of a known kind; expected {', '.join(SOURCES)}")


def _targets(pairs: dict[str, Pair], text: str, outputs: int | None, class_names: Sequence[str] | None) -> Targets:
    """The targets of all splits together, so that a class has one number in all of them."""
    for name, pair in pairs.items():
        if pair.x.ndim == 0 or pair.y.ndim == 0 or len(pair.x) != len(pair.y):
            raise InputError(f"{text}: {name} samples have shape {pair.x.shape}, but labels {pair.y.shape}; expected as many of both")
        if len(pair.x) == 0:
            raise InputError(f"{text}: has no {name} samples")
    try:
        return to_targets(np.concatenate([pair.y for pair in pairs.values()]), outputs, class_names)
    except ValueError as error:
        raise InputError(f"{text}: the labels of its splits differ in shape or kind") from error
    except InputError as error:
        raise InputError(f"{text}: {error}") from error


def _to_splits(pairs: dict[str, Pair], targets: Targets, request: Request) -> list[Split]:
    bounds = np.cumsum([len(pair.x) for pair in pairs.values()])[:-1]
    values = np.split(targets.values, bounds)
    return [Split(_samples(pair.x, f"{request.text}: {name}", request), y) for (name, pair), y in zip(pairs.items(), values, strict=True)]


def _samples(x: np.ndarray, name: str, request: Request) -> np.ndarray:
    """Samples in the model's shape: token ids, uint8, or finite float32; contiguous."""
    if x.dtype.kind not in "biuf":
        raise InputError(f"{name}: samples have dtype {x.dtype}; expected numbers")
    shaped = shape_samples(x, request.input_shape, name)
    if request.vocabulary is not None:
        return _ids(shaped, name, request.vocabulary)
    if x.dtype == np.uint8:
        return np.ascontiguousarray(shaped)
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(shaped, np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        raise InputError(f"{name}: NaN or infinite values, first in sample {np.argwhere(~finite)[0][0]}")
    return values


def _ids(x: np.ndarray, name: str, vocabulary: int) -> np.ndarray:
    """Token ids as int64, each one that the model knows."""
    if x.dtype.kind not in "biu" or not 0 <= x.min() <= x.max() < vocabulary:
        found = f"from {x.min():g} to {x.max():g}, as {x.dtype}"
        raise InputError(f"{name}: values run {found}; the model takes token ids, whole numbers from 0 to {vocabulary - 1}")
    return np.ascontiguousarray(x, np.int64)


def _note_odd_scale(x: np.ndarray, normalization: Normalization, text: str, progress: Progress) -> None:
    """Say so when floats seem to be in other units than the normalization, as pixels stored as floats up to 255 are."""
    if x.dtype != np.float32:
        return
    average = float(normalize(torch.from_numpy(x[:1000]), normalization).abs().mean())
    if average > _ODD_SCALE:
        hint = "pixels up to 255 must be stored as uint8, or give --mean and --std in their units"
        progress.note(f"{text}: normalized values are {average:.3g} on average; {hint}")


def _three_splits(splits: dict[str, Split], seed: int, fraction: float) -> tuple[Split, Split, Split | None]:
    """Train, validation and test: the source's own where it has them, else held out from the training samples."""
    rng = np.random.default_rng(seed)
    train, validation, test = splits["train"], splits.get("validation"), splits.get("test")
    if validation is not None:
        return train, validation, test
    if test is None:
        train, test = hold_out(train, fraction, rng)
        fraction /= 1 - fraction
    train, validation = hold_out(train, fraction, rng)
    return train, validation, test
