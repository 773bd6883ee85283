"""Training under a penalty; how strong it may be is found on the validation split.

    float ─► epochs without ─┬─► the last ones without, too ──► the accuracy to hold
                             ├─► ... with strength 4^a units ─┐
                             └─► ... with strength 4^b units ─┴─► the strongest that holds it

The thesis's rule (section 4.3.1): of the strengths at which penalty and loss are of one order of magnitude, the largest that costs the float
network no accuracy. Nothing is quantized on the way.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from compresskit.data import Dataset, batches
from compresskit.errors import GuardError, InputError
from compresskit.progress import SILENT, Progress
from compresskit.quantization.network import Network
from compresskit.quantization.plan import Plan
from compresskit.quantization.robust.config import RobustConfig
from compresskit.quantization.robust.penalties import PENALTIES
from compresskit.quantization.robust.report import Trial
from compresskit.quantization.robust.watch import Watched, regularized
from compresskit.training import Evaluation, Objective, TrainResult, evaluate, train
from compresskit.training.objectives import supervised
from compresskit.training.precision import device_of
from compresskit.training.state import copied
from compresskit.training.tuning import Checkpointing, keeping_zeros, on_device, train_config
from compresskit.wording import first_line

PENALIZED = 15.0
"""Epochs in which the penalty acts, at most: gradients shrink by themselves before (the thesis, appendix B.4)."""

POWERS = range(-2, 5)
"""Of 4: the strengths to choose from, in units of that at which penalty and loss are equal."""

PROBES, PROBE_SIZE = 8, 32  # batches, and samples in each, to measure a penalty on
RATES = {"sgd": 5e-4, "adamw": 2e-4}  # norms are folded away: what they forgave is not forgiven

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Robust:
    """A float network, trained.

    Attributes:
        network: the one that was given, with other weights.
        strength: of the penalty; 0: none held the accuracy, or none was asked for.
        trials: every training of the last epochs, that without a penalty first.
    """

    network: Network
    strength: float
    trials: tuple[Trial, ...]


def make_robust(
    network: Network,
    plan: Plan,
    data: Dataset,
    config: RobustConfig,
    *,
    source: str = "the model",
    device: torch.device | str = "cpu",
    checkpointing: Checkpointing | None = None,
    progress: Progress = SILENT,
) -> Robust:
    """Train a prepared network with a penalty on what quantization by `plan` would round.

    Raises:
        GuardError: training diverged without a penalty, or with the one strength that was asked for.
        InputError: an operator that torch cannot run, or data that do not fit.
    """
    module = Watched(network, plan, input_shape=tuple(data.train.x.shape[1:]), source=source)
    with on_device(module, torch.device(device)):
        kept, strength, trials = _found(_Trainer(module, source, data, config, checkpointing, progress))
    module.load_state_dict(kept)
    return Robust(module.trained(), strength, trials)


@dataclass(frozen=True)
class _Tried:
    """One training of the last epochs: its score, larger where the network is better, and the network's state after it."""

    strength: float
    score: float
    penalty: tuple[float, float]
    seconds: float
    state: State

    def trial(self, floor: float) -> Trial:
        accuracy = abs(self.score) if math.isfinite(self.score) else None
        return Trial(self.strength, accuracy, *self.penalty, self.score >= floor, self.seconds)


@dataclass(frozen=True)
class _Trainer:
    """Trains one module, time and again."""

    module: Watched
    source: str
    data: Dataset
    config: RobustConfig
    checkpointing: Checkpointing | None
    progress: Progress

    def tried(self, start: State, strength: float, epochs: float, *, phase: int) -> _Tried:
        """Train from `start`. A strength that makes training diverge scores less than anything, unless it was asked for."""
        self.module.load_state_dict(start)
        before = self.probed()[1]
        smoothing = self.config.label_smoothing
        objective = regularized(PENALTIES[self.config.method], strength, label_smoothing=smoothing) if strength else supervised(smoothing)
        try:
            done = self.train(epochs, objective, phase=phase)
        except GuardError:
            if strength in (0.0, self.config.strength):
                raise
            return _Tried(strength, -math.inf, (before, before), 0.0, start)
        return _Tried(strength, _score(self.validated()), (before, self.probed()[1]), done.seconds / done.steps, copied(self.module.state_dict()))

    def train(self, epochs: float, objective: Objective, *, phase: int) -> TrainResult:
        settings = train_config(self.config, self.data, epochs=epochs, rate=RATES[self.config.optimizer], kept=self.checkpointing, phase=phase)
        after_step = keeping_zeros(self.module.weights())
        try:
            return train(self.module, self.data, settings, objective=objective, after_step=after_step, progress=self.progress)
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            reason = f"{first_line(error)}: gradients of a gradient need it; --robust-method dq does not"
            raise InputError(f"{self.source}: {reason}") from error

    def validated(self) -> Evaluation:
        return evaluate(self.module, self.data.validation, self.data.normalization, batch_size=self.config.batch_size)

    def probed(self) -> tuple[float, float]:
        """Loss and penalty, means over a few batches. Where there is no penalty, it is 0."""
        order = torch.Generator().manual_seed(self.config.seed)
        drawn = batches(self.data.train, self.data.normalization, PROBE_SIZE, shuffle=order, device=device_of(self.module))
        passes = (self.module.watch(x, y) for x, y in islice(drawn, PROBES))
        penalty = None if self.config.method == "none" else PENALTIES[self.config.method]
        pairs = [(run.loss.item(), 0.0 if penalty is None else penalty(run).item()) for run in passes]
        return statistics.fmean(loss for loss, _ in pairs), statistics.fmean(value for _, value in pairs)


def _found(trainer: _Trainer) -> tuple[State, float, tuple[Trial, ...]]:
    """The state of the best network, the strength that it was trained with, and every trial."""
    config, module = trainer.config, trainer.module
    last = min(config.epochs, PENALIZED)
    given = trainer.validated()
    if config.epochs > last:
        trainer.train(config.epochs - last, supervised(config.label_smoothing), phase=0)
    start = copied(module.state_dict())
    plain = trainer.tried(start, 0.0, last, phase=1)
    # What training takes by itself is not the penalty's fault, and what it gives is not owed: the worse of the two has to be held.
    floor = min(_score(given), plain.score) - _slack(given)
    tries = [plain]
    if config.method != "none":
        module.load_state_dict(start)
        strengths = [config.strength] if config.strength else _strengths(*trainer.probed())
        tries += _bisected(strengths, lambda strength, phase: trainer.tried(start, strength, last, phase=phase), floor)
    allowed = [one for one in tries if one.score >= floor or one.strength == config.strength]
    best = max(allowed, key=lambda one: one.strength, default=plain)
    return best.state, best.strength, tuple(one.trial(floor) for one in tries)


def _strengths(loss: float, penalty: float) -> list[float]:
    """From weak to strong, around the one at which penalty and loss are equal."""
    unit = loss / penalty if loss > 0 and penalty > 0 else 1.0
    return [unit * 4.0**power for power in POWERS]


def _bisected(strengths: Sequence[float], attempt: Callable[[float, int], _Tried], floor: float) -> Iterator[_Tried]:
    """Attempts at strengths, on the way to the largest that scores at least `floor`: less is taken to hold where more does."""
    low, high, phase = -1, len(strengths), 2
    while high - low > 1:
        middle = (low + high) // 2
        tried = attempt(strengths[middle], phase)
        yield tried
        low, high, phase = (middle, high, phase + 1) if tried.score >= floor else (low, middle, phase + 1)


def _score(found: Evaluation) -> float:
    """Accuracy, or the error with its sign turned."""
    return found.accuracy if found.accuracy is not None else -(found.rmse or 0.0)


def _slack(found: Evaluation) -> float:
    """What cannot be told from no loss: one standard error of the accuracy, or a hundredth of the error."""
    if found.accuracy is None:
        return 0.01 * (found.rmse or 0.0)
    return math.sqrt(max(found.accuracy * (1 - found.accuracy), 1 / found.count) / found.count)
