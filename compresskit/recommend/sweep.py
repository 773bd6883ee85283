"""`recommend --train`: try settings on models and data, keep every trial, fit the predictors, and say how good they are.

models x data ─► problems ─► families of settings ─► trials, a file each ─► table ─► predictors ─► metrics
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from compresskit.cluster import Workers
from compresskit.data import interface, read_data
from compresskit.data.source import absolute_location
from compresskit.errors import InputError, UsageError
from compresskit.models.load import load_model
from compresskit.progress import SILENT, Progress
from compresskit.recommend.config import MODEL_SUFFIXES, TrainRequest
from compresskit.recommend.evaluate import cross_validated
from compresskit.recommend.features import called
from compresskit.recommend.features import problem as describe
from compresskit.recommend.methods import BUDGETS, Budget, trains
from compresskit.recommend.predictor import FEWEST_ARCHITECTURES, fit_both
from compresskit.recommend.predictor_file import write_predictors
from compresskit.recommend.report import TrainReport
from compresskit.recommend.settings import NONE, Setting, grid
from compresskit.recommend.store import Store
from compresskit.recommend.table import Problem, Table, Trial, merged, read_table, write_table
from compresskit.recommend.trials import families, try_family
from compresskit.report import Output
from compresskit.requests import CompressRequest
from compresskit.runtime import Clock
from compresskit.wording import listed
from compresskit.writers import check_target

FEWEST_TO_JUDGE = 4
"""Architectures: below, a quarter of them is none."""
TRAINED_A_FAMILY = 1
"""Trained quantizations of one pruned model, where not every setting is tried: each costs ten times as much as one that is not trained."""


@dataclass(frozen=True)
class Job:
    """A problem whose settings one process tries.

    Attributes:
        name: of the problem.
        model, data: as the user says them; the paths of `request` and `store` hold wherever a worker runs.
        request: what to read.
        settings: in the order in which they are tried.
        store: folder of trials.
    """

    name: str
    model: str
    data: str
    request: CompressRequest
    settings: tuple[Setting, ...]
    budget: str
    seed: int
    store: str


@dataclass(frozen=True)
class Done:
    """What one process found."""

    problem: Problem
    trials: tuple[Trial, ...]
    tried: int
    failures: tuple[str, ...]


def run(request: TrainRequest, progress: Progress = SILENT) -> TrainReport:
    """Do what `compresskit recommend --train` says it does. A second run goes on where the first was stopped.

    Raises:
        CompresskitError: of the kind that the exit codes describe.
    """
    output = Path(request.output)
    folder = output.with_name(output.name + ".trials")
    clock = Clock()
    jobs = tuple(_jobs(request, folder))
    check_target(output, force=request.force, protect=request.files_read())
    tables = [read_table(folder)] if (folder / "trials.csv").is_file() else []
    _check_architectures(request, tables)
    with clock("trials"):
        progress.stage("trials", len(jobs))
        done = []
        for found in Workers(request.jobs, request.cluster).map(work, jobs):
            done.append(found)
            progress.advance(1)
    fresh = [Table({found.problem.name: found.problem}, found.trials) for found in done if found.trials]
    table = merged([*tables, *fresh])
    if not table.trials:
        raise InputError(f"no setting could be tried: {next((failure for found in done for failure in found.failures), 'none runs on these models')}")
    write_table(table, folder, force=True)
    with clock("fit"):
        progress.stage("fit")
        size = write_predictors(fit_both(table), output, force=request.force)
    with clock("judge"):
        progress.stage("judge")
        models = {problem.model for problem in table.problems.values()}
        judged = cross_validated(table) if len(models) > max(FEWEST_TO_JUDGE, FEWEST_ARCHITECTURES) else {}
    return TrainReport(
        command="recommend --train",
        arguments=request.arguments,
        seed=request.seed,
        threads=1,  # of each process here: trials and trees are the same for any number of jobs
        settings={"budget": request.budget, "trials": request.trials},
        problems=len(table.problems),
        trials=len(table.trials),
        tried=sum(found.tried for found in done),
        failed=tuple(failure for found in done for failure in found.failures),
        ignored=table.ignored,
        metrics={name: asdict(metrics) for name, metrics in judged.items()},
        stages=clock.seconds,
        outputs=(Output(request.output, "predictor", size),),
    )


def work(job: Job) -> Done:
    """Describe the problem of `job` and try its settings; those that were tried before are read."""
    request = job.request
    graph = replace(load_model(request.model, trust=request.trust, max_bytes=request.max_bytes), source=job.model)
    data = read_data(request, interface(graph), seed=job.seed)
    problem = describe(graph, data, name=job.name, data_name=Path(job.data).name)
    if problem.hopeless:
        return Done(problem, (), 0, (f"{job.name}: the model is no better than a constant answer",))
    store = Store(Path(job.store))
    parts = families(job.name, _fingerprint(request.model), data.fingerprint(), job.settings, job.budget, job.seed)
    known = sum(store.get(description) is not None for family in parts for description in family.described())
    failures = tuple(failure for family in parts for failure in try_family(family, graph, data, store))
    trials = tuple(trial for family in parts for description in family.described() if (trial := store.get(description)) is not None)
    return Done(problem, trials, len(trials) - known, failures)


def _check_architectures(request: TrainRequest, tables: Sequence[Table]) -> None:
    """Refuse, before anything is tried, what no predictor could be fitted to.

    Args:
        tables: of earlier trials.

    Raises:
        InputError: the models and those of earlier trials are of too few architectures; as `load_model`.
    """
    found = {table.problems[trial.problem].model for table in tables for trial in table.trials}
    for model in request.model_files():
        if len(found) >= FEWEST_ARCHITECTURES:
            return
        found.add(called(load_model(str(model), trust=request.trust, max_bytes=request.max_bytes)))
    if len(found) < FEWEST_ARCHITECTURES:
        raise InputError(
            f"{request.models}: a predictor needs models of {FEWEST_ARCHITECTURES} architectures or more, not of {listed(sorted(found))}: add some"
        )


def _jobs(request: TrainRequest, folder: Path) -> Iterator[Job]:
    """One job a pair of model and data.

    Raises:
        InputError: there are no models, or no data where they should be.
        UsageError: two pairs have one name, which their trials would share.
    """
    models = request.model_files()
    if not models:
        raise InputError(f"{request.models}: no models: expected a folder of {', '.join(MODEL_SUFFIXES)}")
    settings = grid()
    share = None if request.trials is None else max(1, request.trials // (len(models) * len(request.data)))
    named: set[str] = set()
    for model in models:
        for data in request.data:
            asked = CompressRequest(str(model.absolute()), data=absolute_location(data), trust=request.trust, max_bytes=request.max_bytes)
            name = f"{model.stem}/{Path(data).stem}"
            if name in named:
                raise UsageError(f"two pairs of model and data would be called {name}: rename a file")
            named.add(name)
            chosen = settings if share is None else _spread(settings, share, BUDGETS[request.budget], name)
            yield Job(name, str(model), data, asked, chosen, request.budget, request.seed, str(folder.absolute() / "store"))


def _spread(settings: Sequence[Setting], count: int, budget: Budget, name: str) -> tuple[Setting, ...]:
    """`count` of `settings`, others for every problem, so that a small table has all methods in it.

    What quantizes alone comes first; then pruned models, each with every quantizer that is not trained and one that is:
    a model that is pruned once is quantized at several widths for little more.
    """
    ranked = sorted(settings, key=lambda setting: _draw(name, setting))
    chosen: list[Setting] = []
    for family in sorted({(setting.pruner, setting.sparsity) for setting in settings}, key=lambda family: (family[0] != NONE, _draw(name, family))):
        members = [setting for setting in ranked if (setting.pruner, setting.sparsity) == family]
        trained = [setting for setting in members if trains(setting, budget)]
        chosen += [*(setting for setting in members if setting not in trained), *trained[: None if family[0] == NONE else TRAINED_A_FAMILY]]
    return tuple(sorted(chosen[:count]))


def _draw(name: str, item: object) -> bytes:
    return hashlib.sha256(f"{name} {item}".encode()).digest()


def _fingerprint(model: str | bytes) -> str:
    return hashlib.sha256(model if isinstance(model, bytes) else Path(model).read_bytes()).hexdigest()
