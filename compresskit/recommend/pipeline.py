"""`recommend` from a model file to ranked settings: describe the problem, predict every setting, rank, and carry out what is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from compresskit.data import Dataset, interface, read_data
from compresskit.errors import InputError, TargetError, UsageError
from compresskit.models.graph import ModelGraph
from compresskit.models.info import model_info
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.outputs import write_onnx
from compresskit.progress import SILENT, Progress
from compresskit.pruning.measure import settle_threads
from compresskit.recommend.config import RecommendConfig, RecommendRequest
from compresskit.recommend.evaluate import erm_bound
from compresskit.recommend.explain import drives
from compresskit.recommend.features import problem as describe
from compresskit.recommend.methods import BUDGETS, runs_on
from compresskit.recommend.novelty import novelty
from compresskit.recommend.predictor import Predictor
from compresskit.recommend.predictor_file import SHIPPED, read_predictors
from compresskit.recommend.ranking import Candidate, nearest, shortlist
from compresskit.recommend.report import Explained, Recommendation, RecommendOutcome, RecommendReport
from compresskit.recommend.settings import FLOAT_BITS, Setting
from compresskit.recommend.table import Problem
from compresskit.recommend.timing import latencies
from compresskit.recommend.trials import Compressed, compress, nonzero
from compresskit.report import Output
from compresskit.runtime import Clock, seed_everything, set_threads
from compresskit.writers import STDOUT

EXPLAINED = 10
NEAREST = 5


def run(request: RecommendRequest, progress: Progress = SILENT) -> RecommendOutcome:
    """Do what `compresskit recommend` says it does.

    Raises:
        TargetError: no setting meets the constraints; the nearest is named.
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    config = request.config
    if request.data is None and (config.verify or config.apply is not None):
        raise UsageError("--verify and --apply carry settings out: give --data")
    clock = Clock()
    set_threads(request.threads or 0)
    seed_everything(config.seed)
    with clock("read"):
        progress.stage("read")
        source = Path(request.predictor) if request.predictor is not None else SHIPPED
        predictors = read_predictors(source)
        graph = load_model(request.model, arch=request.arch, input_shape=request.input_shape, trust=request.trust, max_bytes=request.max_bytes)
        data = None if request.data is None else read_data(request, interface(graph), seed=config.seed, progress=progress)
    threads = settle_threads(request.threads, graph)
    with clock("describe"):
        progress.stage("describe")
        problem = describe(graph, data, name=graph.source, data_name=request.data or "")
        if problem.hopeless:
            raise InputError(f"{graph.source} is no better than a constant answer on {request.data}: there is no accuracy to keep")
    better = data is None or data.classes is not None
    _check_constraints(config, higher_is_better=better)
    predictor = predictors.for_problem(problem)
    settings = [setting for setting in predictor.settings if runs_on(setting, graph, data=True)]
    with clock("time"):
        times = latencies(graph, data, settings, threads=threads, progress=progress) if config.constraints.latency is not None else {}
    with clock("predict"):
        candidates = _candidates(predictor, problem, settings, nonzero(graph), times)
    met = shortlist(candidates, config.constraints, higher_is_better=better)
    if not met:
        near = nearest(candidates, config.constraints, higher_is_better=better)
        raise TargetError(f"no setting meets all that is asked: the nearest is {_said(near)}; ask for less")
    chosen = met[: max(config.top, config.verify, config.apply or 0)]
    with clock("carry out"):
        done = _carried_out(graph, data, chosen, config, progress)
    outputs, standard_output = _written(request, graph, done)
    known = novelty(predictor, problem)
    report = RecommendReport(
        command="recommend",
        arguments=request.arguments,
        seed=config.seed,
        threads=threads,
        settings={name: value for name, value in vars(config).items() if name not in ("constraints", "seed")},
        device="cpu",
        model=model_info(graph.source, graph.arch, graph.inputs),
        predictor=source.name,
        metric="retained accuracy" if data is None else "top-1" if better else "rmse",
        original=None if data is None else problem.original,
        constraints={name: value for name, value in vars(config.constraints).items() if value is not None},
        offered=len(candidates),
        met=len(met),
        recommended=tuple(_recommendation(candidate, done.get(place)) for place, candidate in enumerate(chosen, 1)),
        nearest=known.nearest[:NEAREST],
        unlike=known.unlike,
        missing=tuple(sorted(name for name, value in problem.features.items() if math.isnan(value) and name not in ("accuracy", "rmse"))),
        bound=erm_bound(len(predictor.problems), len(predictor.settings)),
        explained=_explained(predictor, problem, chosen[0].prediction.setting) if config.explain else (),
        stages=clock.seconds,
        warnings=tuple(_warnings(data, known.unlike)),
        outputs=outputs,
    )
    return RecommendOutcome(report, standard_output)


def _check_constraints(config: RecommendConfig, *, higher_is_better: bool) -> None:
    """Refuse to hold an accuracy to what an error was asked to be, or the other way round.

    Raises:
        UsageError: one of them is asked for where the other is measured.
    """
    if higher_is_better and config.constraints.error is not None:
        raise UsageError("--max-error is for --data whose targets are numbers: give --min-accuracy here")
    if not higher_is_better and config.constraints.accuracy is not None:
        raise UsageError("--min-accuracy is for --data with classes: give --max-error here")


def _candidates(predictor: Predictor, problem: Problem, settings: Sequence[Setting], parameters: int, times: dict[Setting, float]) -> list[Candidate]:
    predictions = predictor.predict(problem, settings)
    return [Candidate(p, parameters * FLOAT_BITS / 8 / p.setting.compression, times.get(p.setting)) for p in predictions]


def _carried_out(
    graph: ModelGraph, data: Dataset | None, chosen: Sequence[Candidate], config: RecommendConfig, progress: Progress
) -> dict[int, Compressed]:
    """What became of the settings that are to be verified or applied, by place from 1."""
    places = sorted({*range(1, min(config.verify, len(chosen)) + 1), *([config.apply] if config.apply is not None else [])})
    if places and places[-1] > len(chosen):
        raise UsageError(f"--apply {places[-1]}: only {len(chosen)} settings meet the constraints")
    found = {}
    for place in places:
        assert data is not None
        setting = chosen[place - 1].prediction.setting
        progress.stage(str(setting))
        found[place] = compress(graph, data, setting, BUDGETS[config.budget], config.seed, progress)
    return found


def _written(request: RecommendRequest, graph: ModelGraph, done: dict[int, Compressed]) -> tuple[tuple[Output, ...], bytes | None]:
    """Write the model that was applied."""
    if request.config.apply is None or request.dry_run:
        return (), None
    applied = done[request.config.apply]
    normalized = replace(applied.graph, normalization=graph.normalization)
    model = applied.model if applied.model is not None else export_onnx(normalized).SerializeToString()
    written = write_onnx(model, request.outputs, force=request.force, protect=request.files_read(request.predictor))
    return tuple(written), model if STDOUT in request.outputs else None


def _recommendation(candidate: Candidate, done: Compressed | None) -> Recommendation:
    prediction = candidate.prediction
    setting = prediction.setting
    return Recommendation(
        setting.pruner,
        setting.quantizer,
        setting.sparsity,
        setting.bits,
        setting.compression,
        candidate.size,
        candidate.latency,
        prediction.quality,
        prediction.low,
        prediction.high,
        None if done is None else done.quality,
        None if done is None else FLOAT_BITS / setting.bits / done.kept,
    )


def _explained(predictor: Predictor, problem: Problem, setting: Setting) -> tuple[Explained, ...]:
    found = []
    for drive in drives(predictor, problem, setting)[:EXPLAINED]:
        value = problem.features.get(drive.feature)
        found.append(Explained(drive.feature, None if value is None or math.isnan(value) else value, drive.gain, drive.shap))
    return tuple(found)


def _said(candidate: Candidate) -> str:
    parts = [f"{candidate.prediction.setting} ({candidate.compression:.3g} times smaller, {candidate.prediction.quality:.3f} expected"]
    return ", ".join(parts + ([f"{candidate.latency:.3g} ms"] if candidate.latency is not None else [])) + ")"


def _warnings(data: Dataset | None, unlike: bool) -> Iterator[str]:
    if data is None:
        yield "without --data only the model speaks: figures are parts of its own accuracy, and intervals are wider"
    if unlike:
        yield "this model is unlike any that the predictor has seen: verify what it says (--verify 5)"
