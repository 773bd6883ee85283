"""From a state_dict to the zoo architecture that it belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from compresskit.errors import InputError
from compresskit.models.zoo.architecture import ARCHITECTURES, Architecture, Naming, Options, Shapes

_NEAR = 0.5  # the least share of parameters that must agree for an architecture to be worth a mention
_SHOWN = 2  # differences of a kind that a message names
_COUNTER = "num_batches_tracked"  # of batch norm: old files lack it, and inference does not use it


@dataclass(frozen=True)
class Fit:
    """How a state_dict compares with an architecture, at the options under which they agree best.

    Attributes:
        architecture: the zoo entry.
        options: arguments of its builder, inferred from the shapes.
        missing: keys with shapes that the architecture has and the state_dict lacks.
        unexpected: keys with shapes that only the state_dict has.
        reshaped: keys that both have, with both shapes.
        agreement: share of all keys of both that agree, 0 to 1.
    """

    architecture: Architecture
    options: Options
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    agreement: float

    @property
    def exact(self) -> bool:
        """Whether the state_dict loads."""
        return self.agreement == 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels, height and width of the input; of texts the number of tokens, of tables that of columns."""
        usual = self.architecture.input_shape
        first = "in_channels" if self.architecture.dtype.is_floating_point else "tokens"
        names = (first, "size", "size")[: len(usual)]
        return tuple(self.options.get(name, size) for name, size in zip(names, usual, strict=True))

    def explain(self) -> str:
        """The differences, the first few of each kind."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.reshaped}
        return "; ".join(f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds.items() if keys)


def fit(architecture: Architecture, shapes: Shapes) -> Fit:
    """Compare parameter shapes with an architecture under each of its namings; the best wins."""
    return max((_fit_naming(architecture, naming, shapes) for naming in architecture.namings), key=lambda found: found.agreement)


def suggest(shapes: Shapes) -> list[str]:
    """Names of the architectures that have these keys and shapes; where none has, of those that come near. The best first.

    Of several at different widths the one nearest to its published width is best.
    """
    fits = [fit(entry, shapes) for entry in ARCHITECTURES.values() if _shared_keys(entry, shapes) >= _NEAR]
    fits.sort(key=lambda found: (-found.agreement, abs(math.log(found.options.get("width", 1.0)))))
    return [found.architecture.name for found in fits if found.exact] or [found.architecture.name for found in fits if found.agreement >= _NEAR][:3]


def build_for_state(name: str, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """Build architecture `name` as the state_dict asks (classes, input channels, width, kind of shortcut) and load it.

    Raises:
        UsageError: no architecture has that name.
        InputError: the state_dict does not fit; the message names the differences and the architectures that would fit.
    """
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    found = fit(ARCHITECTURES[name], shapes)
    if not found.exact:
        raise InputError(f"the state_dict does not fit architecture {name!r}: {found.explain()}; {_advice(shapes)}")
    module = found.architecture.build(**found.options)
    module.load_state_dict(dict(state))  # a plain dict: without a version mark, torch fills in absent counters
    return module


def _fit_naming(architecture: Architecture, naming: Naming, given: Shapes) -> Fit:
    options = _infer(architecture, naming, given)
    expected = _shapes(architecture, options)
    missing = tuple(f"{key} {list(shape)}" for key, shape in expected.items() if key not in given and not key.endswith(_COUNTER))
    unexpected = tuple(f"{key} {list(shape)}" for key, shape in given.items() if key not in expected)
    reshaped = tuple(f"{key} {list(shape)} for {list(expected[key])}" for key, shape in given.items() if key in expected and shape != expected[key])
    agreement = 1 - len(missing + unexpected + reshaped) / len(given.keys() | expected.keys())
    return Fit(architecture, options, missing, unexpected, reshaped, agreement)


def _infer(architecture: Architecture, naming: Naming, given: Shapes) -> Options:
    options: Options = dict(naming.options)
    for option, key, axis in (("classes", naming.head, 0), ("in_channels", naming.stem, 1)):
        if size := _size(given, key, axis):
            options[option] = size
    if units := _size(given, naming.unit, 0):
        options["width"] = units / _size(_default_shapes(architecture.name, *naming.options.items()), naming.unit, 0)
    return options | architecture.geometry(given)


def _shared_keys(architecture: Architecture, given: Shapes) -> float:
    """The share of the keys of both that both have, under the best of the namings: no agreement exceeds it."""
    expected = [_default_shapes(architecture.name, *naming.options.items()).keys() for naming in architecture.namings]
    return max(len(keys & given.keys()) / len(keys | given.keys()) for keys in expected)


def _size(shapes: Shapes, key: str | None, axis: int) -> int:
    """The size along `axis` of a parameter, 0 where there is none."""
    return next(iter(shapes.get(key or "", ())[axis : axis + 1]), 0)


@cache
def _default_shapes(name: str, *options: tuple[str, Any]) -> Shapes:
    """Parameter shapes of an architecture at its published width; kept, as every search for an architecture asks for all of them."""
    return _shapes(ARCHITECTURES[name], dict(options))


def _shapes(architecture: Architecture, options: Mapping[str, Any]) -> Shapes:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in architecture.build(**options).state_dict().items()}


def _first(keys: tuple[str, ...]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def _advice(shapes: Shapes) -> str:
    names = suggest(shapes)
    if not names:
        return "no zoo architecture comes near: give --arch pkg.mod:factory or --arch file.py:factory"
    return f"try --arch {' or '.join(names)}"
