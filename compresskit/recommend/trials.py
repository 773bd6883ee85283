"""One trial: compress a model in one setting and measure what is left of it. And sweeps of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compresskit.data import Dataset, Split
from compresskit.errors import CompresskitError
from compresskit.models.graph import ModelGraph
from compresskit.models.isolated import Child, sharing
from compresskit.progress import SILENT, Progress
from compresskit.pruning.engine import prune
from compresskit.quantization.engine import quantize
from compresskit.quantization.measure import onnx_accuracy
from compresskit.quantization.qat.engine import train_quantized
from compresskit.recommend.methods import BUDGETS, PRUNE, QUANTIZE, Budget, runs_on
from compresskit.recommend.settings import NONE, Setting
from compresskit.recommend.store import Description, Store
from compresskit.recommend.table import Trial
from compresskit.training import evaluate
from compresskit.training.evaluation import as_accuracy


@dataclass(frozen=True)
class Compressed:
    """A model in a setting.

    Attributes:
        graph: pruned.
        model: pruned and quantized, as ONNX bytes; None where nothing was quantized.
        quality: on the test split.
        kept: fraction of the original's parameters that are there and not zero.
    """

    graph: ModelGraph
    model: bytes | None
    quality: float
    kept: float


def compress(graph: ModelGraph, data: Dataset, setting: Setting, budget: Budget, seed: int = 0, progress: Progress = SILENT) -> Compressed:
    """Carry out `setting`.

    Raises:
        CompresskitError: as `prune` and `quantize`.
    """
    tuning = fewer(data, budget.samples, seed)
    return quantized(graph, pruned(graph, tuning, setting, budget, seed, progress), tuning, setting, budget, seed, progress=progress)


def pruned(graph: ModelGraph, data: Dataset, setting: Setting, budget: Budget, seed: int = 0, progress: Progress = SILENT) -> ModelGraph:
    """What the pruner of `setting` leaves."""
    if setting.pruner == NONE:
        return graph
    return prune(graph, data, PRUNE[setting.pruner](setting.sparsity, budget, seed), progress=progress).graph


def quantized(
    original: ModelGraph,
    smaller: ModelGraph,
    data: Dataset,
    setting: Setting,
    budget: Budget,
    seed: int = 0,
    child: Child | None = None,
    progress: Progress = SILENT,
) -> Compressed:
    """What the quantizer of `setting` makes of `smaller`, measured. Models run in `child`; None: in one that ends with this."""
    kept = nonzero(smaller) / max(1, nonzero(original))
    if setting.quantizer == NONE:
        return Compressed(smaller, None, quality(smaller, data), kept)
    config = QUANTIZE[setting.quantizer](setting.bits, budget, seed)
    with sharing(child) as child:
        done = quantize(smaller, data, config, source=original.source, child=child, progress=progress)
        if config.trains:
            done = train_quantized(done, data, config, child=child, progress=progress)
        model = done.model.SerializeToString()
        accuracy = onnx_accuracy(model, done.network.inputs[0], data, batch=done.network.fixed_batch, threads=1, child=child)
    return Compressed(smaller, model, accuracy.value, kept)


def quality(graph: ModelGraph, data: Dataset) -> float:
    """Accuracy, mean IOU or RMSE on the test split."""
    split = data.test or data.validation
    return as_accuracy(evaluate(graph.module, split, data.normalization), len(split)).value


def nonzero(graph: ModelGraph) -> int:
    """Parameters that are not zero."""
    return sum(int(parameter.count_nonzero()) for parameter in graph.module.parameters())


def fewer(data: Dataset, samples: int | None, seed: int) -> Dataset:
    """`data` with at most `samples` training samples, drawn by `seed`."""
    if samples is None or samples >= len(data.train):
        return data
    chosen = np.sort(np.random.default_rng(seed).choice(len(data.train), samples, replace=False))
    return replace(data, train=Split(data.train.x[chosen], data.train.y[chosen]))


@dataclass(frozen=True)
class Family:
    """Settings that share a pruned model.

    Attributes:
        problem, model, data: as in `Description`.
        budget: its name.
    """

    problem: str
    model: str
    data: str
    settings: tuple[Setting, ...]
    budget: str
    seed: int = 0

    def described(self) -> Iterator[Description]:
        for setting in self.settings:
            yield Description(self.problem, self.model, self.data, setting, self.budget, self.seed)


def families(problem: str, model: str, data: str, settings: Sequence[Setting], budget: str, seed: int = 0) -> list[Family]:
    """`settings` by what they share."""
    groups: dict[tuple[str, float], list[Setting]] = {}
    for setting in settings:
        groups.setdefault((setting.pruner, setting.sparsity), []).append(setting)
    return [Family(problem, model, data, tuple(group), budget, seed) for group in groups.values()]


def try_family(family: Family, graph: ModelGraph, data: Dataset, store: Store, progress: Progress = SILENT) -> list[str]:
    """Do what of `family` is not in `store` yet. Return why settings could not be carried out: those have no trial."""
    budget = BUDGETS[family.budget]
    missing = [description for description in family.described() if store.get(description) is None]
    missing = [description for description in missing if runs_on(description.setting, graph, data=True)]
    if not missing:
        return []
    failures = []
    tuning = fewer(data, budget.samples, family.seed)
    began = time.process_time()
    try:
        smaller = pruned(graph, tuning, missing[0].setting, budget, family.seed, progress)
    except CompresskitError as error:
        return [f"{family.problem}: {missing[0].setting}: {error}"]
    shared = (time.process_time() - began) / len(missing)
    with Child() as child:
        for description in missing:
            began = time.process_time()
            try:
                found = quantized(graph, smaller, tuning, description.setting, budget, family.seed, child, progress)
            except CompresskitError as error:
                failures.append(f"{family.problem}: {description.setting}: {error}")
                continue
            seconds = shared + time.process_time() - began
            store.put(description, Trial(family.problem, description.setting, found.quality, found.kept, seconds, family.budget))
    return failures
