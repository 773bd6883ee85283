"""The user's own code: `package.module:function` or `file.py:function`, called without arguments.

It returns one of
- (x, y), or (x, y, x_test, y_test), as arrays or tensors;
- a dict of arrays named after their role (`x_train`, `y_train`, ...);
- (train, test) or (train, validation, test), each a DataLoader (of batches), a Dataset or other iterable (of samples), or a pair (x, y).

Every DataLoader is run through once. Floating samples are taken to be what the model takes, uint8 ones to be pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from compresskit.data.limits import Budget
from compresskit.data.roles import find_roles, raw_from_roles
from compresskit.data.source import SOURCES, Pair, Raw, Request, Source
from compresskit.errors import InputError
from compresskit.models.factory import user_function

_ACCEPTED = "return (x, y), a dict of arrays (x_train, y_train, ...), or (train, test) of datasets or loaders"


def _matches(request: Request) -> bool:
    return not request.paths or (request.paths[0].suffix == ".py" and len(request.names) == 1)


def _read(request: Request) -> Raw:
    with user_function(request.text) as function:
        return _to_raw(function(), request.text, request.budget)


def _to_raw(result: Any, name: str, budget: Budget) -> Raw:
    if isinstance(result, Mapping):
        arrays = {str(key): value for key, value in result.items()}
        raw = raw_from_roles(find_roles(arrays, name, _ACCEPTED), lambda key: _to_array(arrays[key]))
        return Raw(raw.train, raw.validation, raw.test, prepared=True)
    if not isinstance(result, tuple | list):
        return Raw(_to_pair(result, name, budget), prepared=True)
    if len(result) in (2, 4) and all(map(_is_array, result)):
        pairs = [Pair(_to_array(x), _to_array(y)) for x, y in zip(result[::2], result[1::2], strict=True)]
    elif len(result) in (2, 3):
        pairs = [_to_pair(part, name, budget) for part in result]
    else:
        raise InputError(f"{name}: returned {len(result)} values; {_ACCEPTED}")
    validation = pairs[1] if len(pairs) == 3 else None
    return Raw(pairs[0], validation, pairs[-1] if len(pairs) > 1 else None, prepared=True)


def _to_pair(part: Any, name: str, budget: Budget) -> Pair:
    if isinstance(part, tuple | list) and len(part) == 2 and all(map(_is_array, part)):
        return Pair(_to_array(part[0]), _to_array(part[1]))
    batched = isinstance(part, DataLoader) and part.batch_sampler is not None
    collected: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for sample in _samples(part, name):
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise InputError(f"{name}: yields {type(sample).__name__}; expected pairs (sample, label)")
        for side, value in zip(collected, sample, strict=True):
            array = _to_array(value)
            budget.take(array.nbytes, name)  # an endless stream stops here
            side.append(array if batched else array[None])
    if not collected[0]:
        raise InputError(f"{name}: yields no samples")
    return Pair(np.concatenate(collected[0]), np.concatenate(collected[1]))


def _samples(part: Any, name: str) -> Iterable[Any]:
    if isinstance(part, Dataset) and hasattr(part, "__len__") and not isinstance(part, torch.utils.data.IterableDataset):
        return (part[index] for index in range(len(part)))
    if isinstance(part, Iterable) and not isinstance(part, str | bytes | Mapping):
        return part
    raise InputError(f"{name}: returned {type(part).__name__}; {_ACCEPTED}")


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | torch.Tensor)


def _to_array(value: Any) -> np.ndarray:
    """An array of its own: nothing that the user's code does later can change it."""
    return value.detach().cpu().numpy().copy() if isinstance(value, torch.Tensor) else np.array(value)


SOURCES.register("code")(Source(_matches, _read))
