"""The outer loop: learn a base network whose latents fit patches.

It begins where it gives the principal components of training patches back (linear.py), and by default it ends there: no other network of so many
latents has a smaller error on average, as long as samples are linear in them. Steps may follow, in which all of it is learned with a map of the
patch in place of the inner loop, an amortised fit that begins at the principal components too. (The thesis differentiates through three gradient
steps on latents: CAVIA, section 5.2.2.)

    patch --encoder (principal components at first)--> latent --mapping--> output layer --SIREN at some points--> error --> all of them learn
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compresskit.codec.linear import between, linear_start
from compresskit.codec.modulation import Modulated, render
from compresskit.codec.siren import MIDDLE, Siren, init
from compresskit.errors import GuardError, InputError, UsageError
from compresskit.progress import SILENT, Progress
from compresskit.training import checkpoints
from compresskit.training.ranks import Ranks, join

Draw = Callable[[int, torch.Generator], Tensor]
"""`draw(count, generator)` gives patches (count, N, channels) with samples in 0..1, always at the same N points."""

COMPONENT_PATCHES = 8192
POWER_ITERATIONS = 4  # of the search for components
LATENT_DEVIATION = 0.5
LEAST_ERROR = 1e-6  # mean squared error that a component makes, at least: those that hardly vary are to be found too
BETWEEN = 8  # points in a cell of a line, of which the start is to be smooth; fewer where cells have neighbours all around
ENCODER_RATE = 0.1  # of the network's learning rate
WARMUP_STEPS = 200
CURVE_POINTS = 100
_TINY = 1e-12


@dataclass(frozen=True)
class TrainBaseConfig:
    """How a base network is learned.

    Attributes:
        width, depth, omega: of the SIREN.
        latents: length of a latent vector; at most COMPONENT_PATCHES and the samples of a patch.
        bandwidth: coordinates reach from -bandwidth to bandwidth (thesis, C.3.5: 5 for sound).
        start: iterations of the search for weights to begin with, before the first step.
        steps: of the outer loop.
        batch: patches a step.
        points: of each patch a step looks at.
        lr: Adam's peak learning rate; one cosine to zero.
        seed: of everything drawn.
        checkpoint: where to keep the state, None for nowhere.
        checkpoint_minutes: between two of them.
        resume: go on from the checkpoint, where there is one.
    """

    width: int = 256
    depth: int = 2
    omega: float = 30.0
    latents: int = 128
    bandwidth: float = 1.0
    start: int = 400
    steps: int = 0
    batch: int = 64
    points: int = 256
    lr: float = 4e-4
    seed: int = 0
    checkpoint: Path | None = None
    checkpoint_minutes: float = 5.0
    resume: bool = False

    @property
    def patches(self) -> int:
        """How many a training looks at, at most: to judge what it learned takes no more."""
        return (self.start + self.steps) * self.batch


@dataclass(frozen=True, eq=False)
class TrainedBase:
    """What `train` learned.

    Attributes:
        network: the base network.
        encoder, mean: of the amortised fit: (N x channels, L), and what it takes off a patch.
        curve: (step, PSNR in dB of the training batches since the last point), from the start at step 0 on.
    """

    network: Modulated
    encoder: Tensor
    mean: Tensor
    curve: tuple[tuple[int, float], ...]

    def encode(self, patches: Tensor) -> Tensor:
        """Latents (P, L) of `patches` (P, N, channels), by the amortised fit."""
        return _encoded(patches, self.encoder, self.mean)


@dataclass(eq=False)
class _State:
    """Everything that changes from step to step."""

    parameters: dict[str, Tensor]
    optimizer: torch.optim.Adam
    generator: torch.Generator
    curve: list[tuple[int, float]]
    step: int = 0


def train(draw: Draw, x: Tensor, config: TrainBaseConfig, progress: Progress = SILENT, *, edges: tuple[int, ...] = ()) -> TrainedBase:
    """Learn a base network. Of several processes that `torchrun` started, each computes its share of a batch, and the first keeps checkpoints.

    Args:
        draw: where patches come from.
        x: (N, dims) coordinates of their points in [-1, 1].
        config: sizes and schedule.
        progress: told every step.
        edges: of the grid whose cells `x` are the centres of, where they are: the start is then smooth between them.

    Raises:
        InputError: the checkpoint is damaged or of another training.
        GuardError: the loss is no longer finite.
        UsageError: there are more processes than patches in a batch.
    """
    ranks = join(x.device)
    if config.batch < ranks.size:
        raise UsageError(f"a batch of {config.batch} patches is too small for {ranks.size} processes: each needs one")
    keeps = config.checkpoint is not None and ranks.rank == 0
    state, sample = _begin(draw, x, config)
    if config.resume and config.checkpoint is not None and checkpoints.exists(config.checkpoint):
        _restore(state, config, progress)
    else:
        _start(state, x, edges, sample, config, progress)
        if keeps:
            _save(state, config)
    ranks.copy_from_first(list(state.parameters.values()))
    progress.stage("train base", config.steps)
    progress.advance(state.step)
    every, saved, recent = max(config.steps // CURVE_POINTS, 1), time.monotonic(), []
    while state.step < config.steps:
        recent.append(_step(state, draw, x, config, ranks))
        if not math.isfinite(recent[-1]):
            raise GuardError(f"training diverged at step {state.step}: lower the learning rate of {config.lr:g}")
        if state.step % every == 0:
            state.curve.append((state.step, _decibels(sum(recent) / len(recent))))
            recent.clear()
        progress.advance(1, psnr=state.curve[-1][1])
        if keeps and time.monotonic() - saved > 60 * config.checkpoint_minutes:
            _save(state, config)
            saved = time.monotonic()
    if keeps:
        _save(state, config)
    return _trained(state, config)


def _decibels(error: float) -> float:
    """PSNR [dB] of a mean squared error."""
    return round(-10 * math.log10(max(error, _TINY)), 3)


def _trained(state: _State, config: TrainBaseConfig) -> TrainedBase:
    learned = {name: tensor.detach().clone() for name, tensor in state.parameters.items()}
    return TrainedBase(_network(learned, config), learned["encoder"], learned["mean"], tuple(state.curve))


def _encoded(patches: Tensor, encoder: Tensor, mean: Tensor) -> Tensor:
    return (patches.flatten(1) - MIDDLE - mean) @ encoder


def _begin(draw: Draw, x: Tensor, config: TrainBaseConfig) -> tuple[_State, Tensor]:
    """A network with random weights, and patches (P, N, channels) that its encoder is taken from."""
    generator = torch.Generator().manual_seed(config.seed)
    sample = draw(COMPONENT_PATCHES, generator)
    encoder, mean = _components(sample.flatten(1) - MIDDLE, config.latents, config.seed)
    siren = init(x.shape[1], config.width, config.depth, sample.shape[-1], config.omega, generator)
    mapping = torch.randn(sample.shape[-1] * (config.width + 1), config.latents, generator=generator)
    parameters = _tensors(siren)
    parameters["weight.0"] *= config.bandwidth
    # So that typical latents change samples by a tenth of their range.
    parameters["mapping"] = mapping * (0.1 / LATENT_DEVIATION / math.sqrt(config.width * config.latents))
    parameters |= {"encoder": encoder, "mean": mean}
    for tensor in parameters.values():
        tensor.requires_grad_()
    fast = [tensor for name, tensor in parameters.items() if name not in ("encoder", "mean")]
    groups = [{"params": fast, "scale": 1.0}, {"params": [parameters["encoder"], parameters["mean"]], "scale": ENCODER_RATE}]
    return _State(parameters, torch.optim.Adam(groups, lr=config.lr), generator, []), sample


def _start(state: _State, x: Tensor, edges: tuple[int, ...], sample: Tensor, config: TrainBaseConfig, progress: Progress) -> None:
    """Bring the network to where it gives principal components back, near latents of zero."""
    parameters = {name: tensor.detach() for name, tensor in state.parameters.items()}  # of one memory with those
    if config.start:
        progress.stage("begin", config.start)
        points, mean, components = _components_anywhere(x, parameters["encoder"], parameters["mean"], edges, config.seed)
        found = linear_start(_network(parameters, config).siren, points, mean, components, config.start, progress)
        for name, tensor in _tensors(found.siren).items():
            parameters[name].copy_(tensor)
        parameters["mapping"].copy_(found.mapping / LATENT_DEVIATION)
    patches = sample[: config.batch]
    error = (render(_network(parameters, config), x, _encoded(patches, parameters["encoder"], parameters["mean"])) - patches).square().mean()
    state.curve.append((0, _decibels(float(error))))


def _components_anywhere(x: Tensor, encoder: Tensor, mean: Tensor, edges: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points on and between those at `x`, the mean patch (points, channels) there, and what typical latents add to it (points, channels, L)."""
    components = (encoder * (LATENT_DEVIATION / encoder.square().sum(dim=0))).reshape(len(x), -1, encoder.shape[1])
    mean = mean.reshape(len(x), -1)
    if not edges:
        return x, mean, components
    known = torch.cat([mean, components.flatten(1)], dim=1)
    places, found = between(known, edges, max(BETWEEN // len(edges), 1), np.random.default_rng(seed))
    fields = torch.cat([known, found])
    channels = mean.shape[1]
    return torch.cat([x, places]), fields[:, :channels], fields[:, channels:].unflatten(1, components.shape[1:])


def _components(flat: Tensor, latents: int, seed: int) -> tuple[Tensor, Tensor]:
    """Map (N x channels, L) from centred patches to their principal components, each of standard deviation LATENT_DEVIATION, and the mean patch."""
    mean = flat.mean(dim=0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _, deviations, directions = torch.svd_lowrank(flat - mean, q=latents, niter=POWER_ITERATIONS)
    scale = (deviations / math.sqrt(len(flat))).clamp(min=math.sqrt(LEAST_ERROR * flat.shape[1]))
    return directions * (LATENT_DEVIATION / scale), mean


def _step(state: _State, draw: Draw, x: Tensor, config: TrainBaseConfig, ranks: Ranks) -> float:
    rate = min(1.0, (state.step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * state.step / config.steps))
    for group in state.optimizer.param_groups:
        group["lr"] = config.lr * rate * group["scale"]
    patches = ranks.share(draw(config.batch, state.generator))
    chosen = torch.randperm(len(x), generator=state.generator)[: config.points]
    latents = _encoded(patches, state.parameters["encoder"], state.parameters["mean"])
    loss = (render(_network(state.parameters, config), x[chosen], latents) - patches[:, chosen]).square().mean()
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    mean = loss.detach().clone()
    ranks.average([mean, *(tensor.grad for tensor in state.parameters.values() if tensor.grad is not None)], len(patches) / config.batch)
    torch.nn.utils.clip_grad_norm_(list(state.parameters.values()), 1.0)
    state.optimizer.step()
    state.step += 1
    return mean.item()


def _tensors(siren: Siren) -> dict[str, Tensor]:
    return {f"weight.{i}": w for i, w in enumerate(siren.weights)} | {f"bias.{i}": b for i, b in enumerate(siren.biases)}


def _network(parameters: dict[str, Tensor], config: TrainBaseConfig) -> Modulated:
    layers = range(config.depth + 1)
    siren = Siren(tuple(parameters[f"weight.{i}"] for i in layers), tuple(parameters[f"bias.{i}"] for i in layers), config.omega)
    return Modulated(siren, parameters["mapping"])


def _identity(config: TrainBaseConfig) -> dict[str, Any]:
    """What a checkpoint must agree on with the training that goes on from it."""
    fixed = replace(config, checkpoint=None, checkpoint_minutes=0.0, resume=False)
    return {name: value for name, value in vars(fixed).items() if not name.startswith("checkpoint")}


def _save(state: _State, config: TrainBaseConfig) -> None:
    assert config.checkpoint is not None
    checkpoints.save(
        config.checkpoint,
        {
            "config": _identity(config),
            "parameters": {name: tensor.detach() for name, tensor in state.parameters.items()},
            "optimizer": state.optimizer.state_dict(),
            "generator": state.generator.get_state(),
            "curve": [list(point) for point in state.curve],
            "step": state.step,
        },
    )


def _restore(state: _State, config: TrainBaseConfig, progress: Progress) -> None:
    assert config.checkpoint is not None
    saved = checkpoints.load(config.checkpoint, progress)
    if saved.get("config") != _identity(config):
        raise InputError(f"{config.checkpoint} is of a training with other settings: remove it, or give the same ones")
    with torch.no_grad():
        for name, tensor in state.parameters.items():
            tensor.copy_(saved["parameters"][name])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.generator.set_state(saved["generator"])
    state.curve[:] = [(int(step), float(value)) for step, value in saved["curve"]]
    state.step = saved["step"]
