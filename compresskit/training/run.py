"""The machine behind `train`: one run, from the first step or from a checkpoint to the last step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from compresskit.data.batches import batches
from compresskit.data.dataset import Split
from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.models.graph import Normalization
from compresskit.progress import SILENT, Progress
from compresskit.training import checkpoints
from compresskit.training.config import TrainConfig
from compresskit.training.evaluation import Evaluation, evaluate, evaluating
from compresskit.training.objectives import Objective, check_targets, predict, supervised
from compresskit.training.optimizers import make_optimizer
from compresskit.training.precision import autocast, device_of, lay_out, resolve
from compresskit.training.ranks import Ranks, join
from compresskit.training.state import EpochRecord, State, copied, digest, seed_for
from compresskit.training.step import Stepper

_ORDER, _STEPS = 0, 1
"""Streams of random events: the order and augmentation of an epoch's samples; dropout and the like in a step."""


class TrainingData(Protocol):
    """What `train` reads of a `Dataset`."""

    @property
    def train(self) -> Split: ...
    @property
    def validation(self) -> Split | None: ...
    @property
    def normalization(self) -> Normalization: ...


class Run:
    """One call of `train`. `good` is at any time the state after the last completed step."""

    def __init__(
        self,
        module: nn.Module,
        data: TrainingData,
        config: TrainConfig,
        objective: Objective | None,
        after_step: Callable[[int], None] | None,
        parameters: Iterable[dict[str, Any]] | None,
        progress: Progress,
    ) -> None:
        self.module, self.data, self.config = module, data, config
        self.device = device_of(module)
        self.precision = resolve(config.precision, self.device)
        self.ranks = join(self.device)
        self.progress = progress if self.ranks.rank == 0 else SILENT
        self.epoch_steps = _steps_per_epoch(len(data.train), config.batch_size, self.ranks)
        self.total = max(1, round(config.epochs * self.epoch_steps))
        layout = self._fit(check=objective is None)
        self.optimizer = make_optimizer(module, config, parameters)
        self.rates = tuple(group["lr"] for group in self.optimizer.param_groups)
        objective = objective or supervised(config.label_smoothing)
        self.update = Stepper(module, objective, after_step, self.optimizer, self.rates, config, self.precision, layout, self.ranks, self.total)
        self.ranks.copy_from_first([*module.parameters(), *module.buffers()])
        self.good = self._begin()
        self.saved_at = time.monotonic()

    def go(self) -> None:
        """Make the steps that are left."""
        self.progress.stage("train", total=self.total)
        self.progress.advance(self.good.step)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            for epoch in range(len(self.good.history), math.ceil(self.total / self.epoch_steps)):
                self._epoch(epoch)
        self._save()

    def abandon(self) -> None:
        """Put model and checkpoint at the last completed step, after something was raised."""
        self._restore(self.good)
        try:
            self._save()
        except CompresskitError as error:
            # What ended the run matters more, and the checkpoint before is still there.
            self.progress.note(str(error))

    def _fit(self, *, check: bool) -> torch.memory_format:
        """Run the model once, to find its layout and to `check` it against the targets."""
        x, _ = next(self._batches(epoch=0))
        with evaluating(self.module), autocast(self.precision, self.device), torch.no_grad():
            layout = lay_out(self.module, x) if self.config.channels_last else torch.contiguous_format
            if check:
                check_targets(predict(self.module, x), self.data.train.y)
        return layout

    def _begin(self) -> State:
        """The state to begin with: that of the checkpoint, or the model as it is."""
        path = self.config.checkpoint
        if path is None or not checkpoints.exists(path):
            if self.config.resume:
                self.progress.note(f"there is no {path} to continue from: training from the start")
            return self._state(step=0)
        if not self.config.resume:
            raise UsageError(f"{path} exists: continue from it with --resume, or remove it")
        payload = checkpoints.load(path, self.progress)
        identity = self._identity()
        differing = sorted(name for name in identity if payload["identity"].get(name) != identity[name])
        if differing:
            raise UsageError(f"{path} is of another run, different in {', '.join(differing)}: repeat its settings, or remove it to start again")
        if payload["threads"] != torch.get_num_threads():
            self.progress.note(f"computing with {payload['threads']} threads, as the run did before")
            torch.set_num_threads(payload["threads"])
        state = State.from_payload(payload["state"])
        self._restore(state)
        return state

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a run to go on to the same result."""
        shapes = [(name, tuple(tensor.shape)) for name, tensor in self.module.state_dict().items()]
        groups = [
            (rate / self.config.lr, [tuple(p.shape) for p in group["params"]])
            for rate, group in zip(self.rates, self.optimizer.param_groups, strict=True)
        ]
        settings = asdict(replace(self.config, checkpoint=None, checkpoint_minutes=0.0, resume=False))
        surroundings = {"precision": self.precision, "device": self.device.type, "processes": self.ranks.size}
        contents = {"model": repr(shapes).encode(), "parameters": repr(groups).encode(), "data": self.data.train.y.tobytes()}
        return {**settings.pop("settled"), **settings, **surroundings, **{name: digest(content) for name, content in contents.items()}}

    def _epoch(self, epoch: int) -> None:
        """Make the steps of `epoch` that are left, and validate."""
        first = epoch * self.epoch_steps
        steps = min(self.epoch_steps, self.total - first)
        began = time.monotonic() - self.good.seconds
        self.module.train()
        done = self.good.step - first
        for x, y in islice(self._batches(epoch, start=done), steps - done):
            torch.manual_seed(seed_for(self.config.seed, _STEPS, self.good.step, self.ranks.rank))
            loss = self.good.loss_sum + self.update(self.good.step, x, y)
            self.good = self._state(self.good.step + 1, self.good.history, loss, time.monotonic() - began)
            self.progress.advance(1, **self._figures(loss / (self.good.step - first)))
            if time.monotonic() - self.saved_at >= 60 * self.config.checkpoint_minutes:
                self._save()
        validation = self._validate()
        record = EpochRecord(self.good.loss_sum / steps, self.optimizer.param_groups[0]["lr"], time.monotonic() - began, validation)
        self.good = replace(self.good, history=(*self.good.history, record), loss_sum=0.0, seconds=0.0)

    def _batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, from number `start`."""
        order = torch.Generator().manual_seed(seed_for(self.config.seed, _ORDER, epoch))
        data, size, augment = self.data, self.config.batch_size, self.config.augment
        return batches(data.train, data.normalization, size, shuffle=order, augment=augment, device=self.device, start=start)

    def _validate(self) -> Evaluation | None:
        split, normalization, size = self.data.validation, self.data.normalization, self.config.batch_size
        if split is None:
            return None
        return evaluate(self.module, split, normalization, batch_size=size, precision=self.precision)

    def _figures(self, loss: float) -> dict[str, float]:
        last = self.good.history[-1].validation if self.good.history else None
        return {"loss": loss} if last is None or last.accuracy is None else {"loss": loss, "accuracy": last.accuracy}

    def _state(self, step: int, history: tuple[EpochRecord, ...] = (), loss_sum: float = 0.0, seconds: float = 0.0) -> State:
        """A copy of everything as it is after `step` steps."""
        return State(step, copied(self.module.state_dict()), copied(self.optimizer.state_dict()), history, loss_sum, seconds)

    def _restore(self, state: State) -> None:
        self.module.load_state_dict(state.module)
        self.optimizer.load_state_dict(copied(state.optimizer))  # it would keep the tensors themselves, and update them

    def _save(self) -> None:
        path = self.config.checkpoint
        if path is None or self.ranks.rank:
            return
        checkpoints.save(path, {"identity": self._identity(), "threads": torch.get_num_threads(), "state": self.good.payload()})
        self.saved_at = time.monotonic()


def _steps_per_epoch(samples: int, batch_size: int, ranks: Ranks) -> int:
    """Batches an epoch; they are of nearly equal size.

    Raises:
        InputError: there are no samples.
        UsageError: some rank would go without.
    """
    if samples == 0:
        raise InputError("there are no samples to train on: expected at least one")
    steps = -(-samples // batch_size)
    if samples // steps < ranks.size:
        raise UsageError(f"a batch of {samples // steps} is too small for {ranks.size} processes: each needs a sample")
    return steps
