"""The engine's other half: weights set to zero in place of channels cut, and the others trained with the zeros held."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx

from compresskit.models.graph import ModelGraph
from compresskit.progress import Progress
from compresskit.pruning.at_init.choice import share_of_weights
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.recovery import Recovery
from compresskit.pruning.result import PruneResult
from compresskit.pruning.scoring import choose_by_saliency
from compresskit.pruning.sparsity import Masks, apply_masks, find_masks, sparse_weights
from compresskit.pruning.surrogate.weights import learn_weights
from compresskit.pruning.target import CLOSE
from compresskit.report import SearchPoint, Skipped
from compresskit.training.state import EpochRecord


@dataclass(frozen=True)
class _Chosen:
    """Which weights of `module` stay, and how that was found."""

    module: fx.GraphModule
    masks: Masks
    history: tuple[EpochRecord, ...] = ()
    path: tuple[SearchPoint, ...] = ()
    notes: tuple[str, ...] = ()


def sparsify(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig, progress: Progress) -> PruneResult:
    """Zero weights, by magnitude, by a saliency or by learned masks, and train the others with the zeros held.

    Raises:
        TargetError: nothing can be made sparse.
        GuardError: training diverged.
    """
    asked = _asked_sparsity(graph.module, config)
    progress.stage("cut")
    chosen = _choose(graph, asked, recovery, config, progress)
    module, masks, history = chosen.module, chosen.masks, chosen.history
    apply_masks(module, masks)
    sparser = graph.with_module(module)
    if recovery is not None:
        recovery.renew_norms(sparser)
        history += recovery.train(sparser, phase=0, phases=1, after_step=lambda _: apply_masks(module, masks))
    weights = sparse_weights(module)
    reason = f"the number of its inputs is not a multiple of what pattern {config.pattern} needs"
    whole = tuple(Skipped(name, reason) for name in weights if name not in masks)
    met = _sparsity({name: weights[name] for name in masks}) >= asked - CLOSE
    reached = _sparsity(weights)
    if config.target is not None:
        parameters = sum(parameter.numel() for parameter in module.parameters())
        asked = config.target.limit(parameters) / parameters
        reached = 1 - sum(int((~mask).sum()) for mask in masks.values()) / parameters
    return PruneResult(sparser, reached, asked, met, skipped=whole, history=history, path=chosen.path, notes=chosen.notes)


def _choose(graph: ModelGraph, asked: float, recovery: Recovery | None, config: PruneConfig, progress: Progress) -> _Chosen:
    """The weights that stay where a fraction `asked` goes."""
    if config.learns and recovery is not None:
        learned = learn_weights(graph.module, asked, config.pattern, recovery)
        return _Chosen(learned.module, learned.masks, learned.history, learned.path)
    module = copy.deepcopy(graph.module)
    if config.salient:
        choice, notes = choose_by_saliency(graph.with_module(module), 1 - asked, config, None if recovery is None else recovery.data, progress)
        return _Chosen(module, choice.masks, notes=notes)
    return _Chosen(module, find_masks(module, asked, config.pattern))


def _asked_sparsity(module: fx.GraphModule, config: PruneConfig) -> float:
    """The fraction of the weights that is to go."""
    if config.target is None:
        assert config.sparsity is not None
        return config.sparsity
    return 1 - share_of_weights(module, config.target.limit(sum(parameter.numel() for parameter in module.parameters())))


def _sparsity(weights: Mapping[str, torch.Tensor]) -> float:
    return 1 - sum(int(weight.count_nonzero()) for weight in weights.values()) / sum(weight.numel() for weight in weights.values())
