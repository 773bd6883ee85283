"""state_dicts as people save them: wrapped in a training state, prefixed by DataParallel, for this net or for another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from compresskit.errors import InputError
from compresskit.models import zoo

State = dict[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema", "state")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")  # of DataParallel, torch.compile, and the usual training wrappers
_COUNTER = "num_batches_tracked"  # of batch norm: old files lack it, and inference does not use it
_SHOWN = 3


def find_state(loaded: Any) -> State:
    """The state_dict in what a file held: itself, or under one of the usual names.

    Raises:
        InputError: there is none.
    """
    for _ in range(3):
        if not isinstance(loaded, dict):
            break
        if loaded and all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in loaded.items()):
            return dict(loaded)
        loaded = next((loaded[name] for name in _WRAPPERS if isinstance(loaded.get(name), dict)), None) or _keys(loaded)
    what = f"a dict of {loaded}" if isinstance(loaded, str) else f"a {type(loaded).__name__}"
    raise InputError(f"the file holds no state_dict but {what}: expected names with tensors, plain or under one of {', '.join(_WRAPPERS)}")


def spellings(state: State) -> Iterator[State]:
    """The state_dict under its own names, and without the prefixes that all of them share."""
    yield state
    for _ in range(3):
        prefix = next((prefix for prefix in _PREFIXES if all(key.startswith(prefix) for key in state)), None)
        if prefix is None:
            return
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        yield state


def zoo_module(name: str, state: State) -> tuple[nn.Module, tuple[int, ...]]:
    """Zoo architecture `name` with `state` loaded, and its input shape without the batch.

    Raises:
        UsageError: no architecture has that name.
        InputError: `state` does not fit it; the message names differing keys and shapes, and the architectures that would fit.
    """
    architecture = zoo.ARCHITECTURES[name]
    candidates = list(spellings(state))
    fits = [zoo.fit(architecture, shapes_of(candidate)) for candidate in candidates]
    best = max(range(len(fits)), key=lambda index: fits[index].agreement)
    return zoo.build_for_state(name, candidates[best]), fits[best].input_shape


def fill(module: nn.Module, state: State, arch: str) -> nn.Module:
    """`module` with `state` loaded.

    Raises:
        InputError: `state` does not fit; the message names differing keys and shapes, and the zoo architectures that would fit.
    """
    expected = shapes_of(module.state_dict())
    candidates = list(spellings(state))
    best = min(candidates, key=lambda candidate: len(_differences(expected, shapes_of(candidate))))
    differences = _differences(expected, shapes_of(best))
    if differences:
        shown = ", ".join(differences[:_SHOWN]) + (", ..." if len(differences) > _SHOWN else "")
        raise InputError(f"the state_dict does not fit {arch}: {len(differences)} differences ({shown}){hint(state)}")
    module.load_state_dict(dict(best))  # a plain dict: without a version mark, torch fills in absent counters
    return module


def hint(state: State) -> str:
    """What to try: the zoo architectures that the state_dict is of, or is near to; empty where there are none."""
    names = next((names for spelling in spellings(state) if (names := zoo.suggest(shapes_of(spelling)))), [])
    return f"; try --arch {' or '.join(names)}" if names else ""


def shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor."""
    return {key: tuple(value.shape) for key, value in state.items()}


def _differences(expected: Shapes, given: Shapes) -> list[str]:
    missing = [f"{key} {list(shape)} is missing" for key, shape in expected.items() if key not in given and not key.endswith(_COUNTER)]
    unexpected = [f"{key} {list(shape)} is not expected" for key, shape in given.items() if key not in expected]
    reshaped = [f"{key} is {list(shape)}, not {list(expected[key])}" for key, shape in given.items() if key in expected and shape != expected[key]]
    return reshaped + missing + unexpected


def _keys(loaded: dict[Any, Any]) -> str:
    names = [str(key)[:40] for key in list(loaded)[:_SHOWN]]
    return ", ".join(names) + (", ..." if len(loaded) > _SHOWN else "") or "nothing"
