"""Landmarks: what single blows do to a model, tried in seconds and without training (Pfahringer et al. 2000, "Meta-learning by landmarking").

Each probe is the retained part of the quality after the smallest weights became zero, or the weakest channels, with batch norms estimated anew,
or after all weights and what they are multiplied with were rounded. Methods that train afterwards do better, but what they have to mend
differs from model to model, and this tells it beforehand.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from compresskit.data import Split, batches
from compresskit.models.graph import Normalization
from compresskit.training import evaluate, recalibrate_batchnorm
from compresskit.training.evaluation import as_accuracy

SAMPLES = 256
PROBED_KEPT = (0.06, 0.15, 0.35, 0.7)
"""Fractions of the parameters that stay."""
PROBED_BITS = (2, 3, 4, 6)
"""Of a weight and of an activation."""
LOWEST, HIGHEST = -0.5, 1.2


@dataclass(frozen=True)
class Blow:
    """One thing to do to a model.

    Attributes:
        weights: from those of all layers to what is left of them.
        bits: of the layers' inputs; None: they are not rounded, and batch norms get used to the blow.
    """

    weights: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    bits: int | None = None


@torch.no_grad()
def probes(module: nn.Module, layers: Sequence[str], split: Split, normalization: Normalization, trivial: float) -> dict[str, float]:
    """Try every blow on a copy of `module`; the retained part that each leaves, by name.

    Args:
        layers: names of the submodules whose weights are struck.
        split: samples to measure on: the first SAMPLES of them.
        trivial: the quality of the best constant answer.
    """
    few = Split(split.x[:SAMPLES], split.y[:SAMPLES])
    struck, state = copy.deepcopy(module), module.state_dict()
    targets = [struck.get_submodule(name) for name in layers]
    weights = [target.get_parameter("weight") for target in targets]
    whole = [weight.clone() for weight in weights]
    original = _quality(struck, few, normalization)
    found = {}
    for name, blow in BLOWS.items():
        struck.load_state_dict(state)
        for weight, value in zip(weights, blow.weights(whole), strict=True):
            weight.copy_(value)
        if blow.bits is None and len(few) > 1:  # one sample has no variance
            recalibrate_batchnorm(struck, batches(few, normalization, SAMPLES))
        with _rounded_inputs(targets, blow.bits):
            retained = (_quality(struck, few, normalization) - trivial) / ((original - trivial) or 1.0)
        found[name] = min(HIGHEST, max(LOWEST, retained))
    return found


@contextlib.contextmanager
def _rounded_inputs(layers: Sequence[nn.Module], bits: int | None) -> Iterator[None]:
    """Inside, inputs of `layers` are integers of so many bits, from the least to the greatest value of a batch."""

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert bits is not None
        scale = ((inputs[0].amax().clamp(min=0) - inputs[0].amin().clamp(max=0)) / (2**bits - 1)).clamp(min=1e-30)
        return ((inputs[0] / scale).round() * scale, *inputs[1:])

    handles = [layer.register_forward_pre_hook(hook) for layer in layers] if bits is not None else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _quality(module: nn.Module, split: Split, normalization: Normalization) -> float:
    return as_accuracy(evaluate(module, split, normalization), len(split)).value


def _level(whole: Sequence[Tensor], *, kept: float) -> list[Tensor]:
    """The largest weights of all layers together."""
    sizes = torch.cat([weight.abs().flatten() for weight in whole])
    least = sizes.kthvalue(max(1, round((1 - kept) * len(sizes)))).values
    return [torch.where(weight.abs() > least, weight, 0.0) for weight in whole]


def _channels(whole: Sequence[Tensor], *, kept: float) -> list[Tensor]:
    """The largest outputs of each layer but the last; of a fraction k of the parameters, about the square root of k of the outputs stays."""
    return [*(_rows(weight, kept**0.5) for weight in whole[:-1]), *whole[-1:]]


def _rows(weight: Tensor, fraction: float) -> Tensor:
    norms = weight.abs().flatten(1).sum(1)
    least = norms.topk(max(1, round(fraction * len(norms)))).values[-1]
    return weight * (norms >= least).view(-1, *[1] * (weight.ndim - 1))


def _rounding(whole: Sequence[Tensor], *, bits: int) -> list[Tensor]:
    """Symmetric integers with a scale a row."""
    top = 2 ** (bits - 1) - 1
    scales = [weight.abs().flatten(1).amax(1).clamp(min=1e-30).view(-1, *[1] * (weight.ndim - 1)) / top for weight in whole]
    return [(weight / scale).round() * scale for weight, scale in zip(whole, scales, strict=True)]


BLOWS: dict[str, Blow] = {
    **{f"probe_level_{kept:g}": Blow(partial(_level, kept=kept)) for kept in PROBED_KEPT},
    **{f"probe_channels_{kept:g}": Blow(partial(_channels, kept=kept)) for kept in PROBED_KEPT},
    **{f"probe_rounding_{bits}": Blow(partial(_rounding, bits=bits), bits) for bits in PROBED_BITS},
}
