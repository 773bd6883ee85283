"""Meta-training: a metanetwork learns to rewrite networks so that they stay accurate, and so that much of them can be cut.

data model ──rewrite──► weights ──► accuracy on a big batch, part by part ──► gradients of the weights ─┐
     ▲                     └──────► sparsity ──► gradients of the weights, times `pruner_reg` ──────────┴─► through the metanetwork, once

Liu et al. 2025, "Meta Pruning via Graph Metanetworks", section 4.2 and appendix D.1.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from compresskit.data import Dataset, Split
from compresskit.metaprune.attempt import attempted
from compresskit.metaprune.config import MetatrainConfig
from compresskit.metaprune.criterion import GroupSparsity, Sparsity, WeightSparsity
from compresskit.metaprune.graph import layout_of
from compresskit.metaprune.layout import Layout
from compresskit.metaprune.memory import enough_memory
from compresskit.metaprune.network import Metanetwork, rewrite
from compresskit.metaprune.rewriting import named_tensors
from compresskit.models.graph import ModelGraph, Normalization
from compresskit.progress import SILENT, Progress
from compresskit.pruning.criteria.magnitude import NORMS
from compresskit.pruning.groups import find_groups
from compresskit.pruning.sparsity import sparse_weights
from compresskit.training import Objective, TrainConfig, train
from compresskit.training.objectives import loss
from compresskit.training.pointwise import unit_strides
from compresskit.training.precision import lay_out
from compresskit.training.state import EpochRecord
from compresskit.training.tuning import Checkpointing


@dataclass(frozen=True)
class DataModel:
    """A network to learn from.

    Attributes:
        module: in training mode, for its norms to use the statistics of a batch: those that are stored describe the old weights.
        tensors: its parameters and buffers, by name.
        memory: in which images and their kernels are laid out.
    """

    module: fx.GraphModule
    layout: Layout
    tensors: dict[str, Tensor]
    sparsity: Sparsity
    memory: torch.memory_format = torch.contiguous_format


def data_model(graph: ModelGraph, config: MetatrainConfig, device: torch.device | str = "cpu") -> DataModel:
    """`graph`, which stays as it is, made ready to be rewritten.

    Raises:
        InputError: a node does not fit its inputs.
    """
    prunable = find_groups(graph)
    module = copy.deepcopy(prunable.graph.module).to(device).eval()
    memory = lay_out(module, prunable.graph.example()[0].to(device))
    module.train()
    sparsity = (
        WeightSparsity(tuple(sparse_weights(module)))
        if config.criterion == "weights"
        else GroupSparsity(prunable.groups, NORMS[config.criterion], config.normalize, config.alpha, config.relative)
    )
    return DataModel(module, layout_of(prunable.graph), named_tensors(module), sparsity, memory)


def meta_objective(models: Sequence[DataModel], *, pruner_reg: float, batch_size: int) -> Objective:
    """The loss of one of `models`, drawn anew for each update, as a metanetwork rewrites it: accuracy plus `pruner_reg` times sparsity.

    The batch is worked through `batch_size` samples at a time; what is held in memory does not grow with it. The way back through the metanetwork
    is gone here too, where less can be kept if memory runs out; the loss has its gradients.

    Raises (the objective):
        InputError: memory runs out all the same.
    """

    def objective(metanetwork: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        assert isinstance(metanetwork, Metanetwork)
        model = models[int(torch.randint(len(models), ()))]
        with torch.autocast(x.device.type, enabled=False), enough_memory(metanetwork, model.layout, training=True):
            new = rewrite(metanetwork, model.layout, model.tensors)
        leaves = {name: _laid_out(new[name].detach(), model.memory).requires_grad_() for name, _ in model.module.named_parameters() if name in new}
        value = _accumulate(model, leaves, x, y, batch_size)
        weights = {**model.tensors, **leaves}
        with torch.no_grad():
            value = value + pruner_reg * model.sparsity.loss(weights).to(value)
        pressed = model.sparsity.gradients(weights)
        slopes = {name: _slope(leaf, pressed.get(name), pruner_reg) for name, leaf in leaves.items()}
        with torch.autocast(x.device.type, enabled=False), enough_memory(metanetwork, model.layout, training=True):
            gradients = attempted(partial(_gradients, metanetwork, new, slopes))
            if gradients is None:
                del new  # and all that it was computed from
                gradients = _gradients(metanetwork, rewrite(metanetwork, model.layout, model.tensors, thrifty=True), slopes)
        return sum((_with_gradient(*pair) for pair in zip(metanetwork.parameters(), gradients, strict=True)), value)

    return objective


def _accumulate(model: DataModel, leaves: dict[str, Tensor], x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    """The mean loss over all samples; its gradient is left in `leaves`."""
    total = x.new_zeros(())
    for part, targets in zip(x.split(batch_size), y.split(batch_size), strict=True):
        # The norms write statistics that the next rewriting must not read.
        tensors = {**{name: tensor.clone() for name, tensor in model.module.named_buffers()}, **leaves}
        share = loss(functional_call(model.module, tensors, (_laid_out(part, model.memory),)), targets) * (len(part) / len(x))
        with torch.autocast(x.device.type, enabled=False):
            share.backward()
        total += share.detach()
    return total


def _laid_out(tensor: Tensor, memory: torch.memory_format) -> Tensor:
    return tensor.contiguous(memory_format=memory) if tensor.ndim == 4 else tensor


def _slope(leaf: Tensor, pressed: Tensor | None, pruner_reg: float) -> Tensor:
    """The gradient that `leaf` was left with, and `pruner_reg` times `pressed`."""
    gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return gradient if pressed is None else gradient + pruner_reg * pressed


def _gradients(metanetwork: Metanetwork, new: Mapping[str, Tensor], slopes: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The gradient by every weight of `metanetwork`, which made `new`, given the `slopes` by those."""
    made = [new[name] for name in slopes]
    return torch.autograd.grad(made, list(metanetwork.parameters()), list(slopes.values()), allow_unused=True, materialize_grads=True)


def _with_gradient(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Zero, whose derivative by `parameter` is `gradient`."""
    return ((parameter - parameter.detach()) * gradient).sum()


@dataclass(frozen=True)
class _Samples:
    """What training reads of the data. Validation waits for `select`: a metanetwork is judged by the networks that it makes."""

    train: Split
    normalization: Normalization
    validation: None = None


def metatrain(
    metanetwork: Metanetwork,
    graphs: Sequence[ModelGraph],
    data: Dataset,
    config: MetatrainConfig,
    *,
    keep: Callable[[int], None],
    device: torch.device | str = "cpu",
    checkpointing: Checkpointing | None = None,
    progress: Progress = SILENT,
) -> tuple[EpochRecord, ...]:
    """Train `metanetwork` in place on `graphs`, which stay as they are.

    Args:
        keep: called with the number of each epoch, from 1, when it is over, to store what the metanetwork is by then.
        checkpointing: where the state of the training is kept.

    Raises:
        GuardError: training diverged; the metanetwork is as after the last good update.
        InputError: memory runs out.
        UsageError, OutputError: as in `train`.
    """
    models = [data_model(graph, config, device) for graph in graphs]
    settings = _settings(config, data, checkpointing)
    steps = -(-len(data.train) // settings.batch_size)

    def after_step(step: int) -> None:
        if step % steps == 0:
            keep(step // steps)

    objective = meta_objective(models, pruner_reg=config.pruner_reg, batch_size=config.batch_size)
    metanetwork.to(device)
    try:
        with contextlib.ExitStack() as stack:
            for model in models:
                stack.enter_context(unit_strides(model.module))
            samples = _Samples(data.train, data.normalization)
            return train(metanetwork, samples, settings, objective=objective, after_step=after_step, progress=progress).history
    finally:
        metanetwork.to("cpu")


def _settings(config: MetatrainConfig, data: Dataset, kept: Checkpointing | None) -> TrainConfig:
    return TrainConfig(
        epochs=config.epochs,
        batch_size=min(config.batch_size * config.accumulate, len(data.train)),
        optimizer="adamw",
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        schedule="multistep",
        milestones=tuple(epoch / config.epochs for epoch in config.milestones if epoch < config.epochs),
        augment=config.augment,
        channels_last=False,
        checkpoint=kept.path if kept else None,
        checkpoint_minutes=kept.minutes if kept else TrainConfig.checkpoint_minutes,
        resume=kept.resume if kept else False,
        seed=config.seed,
    )
