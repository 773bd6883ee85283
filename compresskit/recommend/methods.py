"""How a setting is carried out: its pruner and its quantizer as configurations of the engines that exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from compresskit.models.graph import ModelGraph
from compresskit.pruning.config import PruneConfig, Target
from compresskit.quantization.config import Method, QuantizeConfig
from compresskit.recommend.settings import NONE, Setting
from compresskit.registry import Registry

LEAST_WIDTH = 0.02
"""Smallest fraction of a group that stays: the engine's own floor forbids 94% sparsity."""


@dataclass(frozen=True)
class Budget:
    """How much training a method may use.

    Attributes:
        name: that trials are filed under.
        epochs: of tuning after pruning.
        quantized_epochs: of quantization-aware training.
        samples: of the training split that both use; None: all.
    """

    name: str
    epochs: float
    quantized_epochs: float
    samples: int | None = None


BUDGETS = {
    "small": Budget("small", 2.0, 1.0, 2000),
    "medium": Budget("medium", 3.0, 1.0, 10_000),
    "full": Budget("full", 10.0, 3.0),
}

Prune = Callable[[float, Budget, int], PruneConfig]
"""From the sparsity, the budget and a seed to what `prune` is asked."""

PRUNE: Registry[Prune] = Registry("pruner")
QUANTIZE: Registry[Callable[[int, Budget, int], QuantizeConfig]] = Registry("quantizer")


@PRUNE.register("level")
def level(sparsity: float, budget: Budget, seed: int) -> PruneConfig:
    """The smallest weights become zero, and nothing is trained."""
    return PruneConfig(sparsity=sparsity, pattern="unstructured", epochs=0.0, seed=seed)


@PRUNE.register("level-tuned")
def level_tuned(sparsity: float, budget: Budget, seed: int) -> PruneConfig:
    """The smallest weights become zero, and the others are tuned."""
    return PruneConfig(sparsity=sparsity, pattern="unstructured", epochs=budget.epochs, seed=seed)


def _channels(criterion: str) -> Prune:
    return lambda sparsity, budget, seed: PruneConfig(
        target=Target("params", 1 - sparsity), criterion=criterion, method="classic", floor=LEAST_WIDTH, round_to=1, epochs=budget.epochs, seed=seed
    )


PRUNE.register("l1")(_channels("l1"))
PRUNE.register("slimming")(_channels("bn-scale"))
PRUNE.register("taylor")(_channels("taylor"))


@PRUNE.register("l1l2")
def l1l2(sparsity: float, budget: Budget, seed: int) -> PruneConfig:
    """Widths learned under the surrogate of the parameters."""
    return PruneConfig(target=Target("params", 1 - sparsity), method="l1l2", floor=LEAST_WIDTH, round_to=1, epochs=budget.epochs, seed=seed)


def _quantizer(method: Method) -> Callable[[int, Budget, int], QuantizeConfig]:
    return lambda bits, budget, seed: QuantizeConfig(
        weights=bits, activations=bits, method=method, epochs=budget.quantized_epochs, rounding="nearest", reduce_range=False, seed=seed
    )


QUANTIZE.register("uniform")(_quantizer("ptq"))
QUANTIZE.register("dorefa")(_quantizer("dorefa"))
QUANTIZE.register("lsq")(_quantizer("lsq"))


def trains(setting: Setting, budget: Budget) -> bool:
    """Whether the quantizer of `setting` trains."""
    return setting.quantizer != NONE and QUANTIZE[setting.quantizer](setting.bits, budget, 0).trains


def runs_on(setting: Setting, graph: ModelGraph, *, data: bool) -> bool:
    """Whether `setting` can be carried out: slimming reads batch norms, and what is trained needs data."""
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in graph.module.modules())
    return (setting.pruner != "slimming" or norms) and (data or (setting.pruner in (NONE, "level") and setting.quantizer == NONE))
