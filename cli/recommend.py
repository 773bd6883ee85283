"""`compresskit recommend`: from the command line to `RecommendRequest`, and from the outcome to what is printed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import typer

from compresskit.errors import UsageError
from compresskit.pruning.config import parse_target
from compresskit.recommend.config import RecommendConfig, RecommendRequest, TrainRequest
from compresskit.recommend.constraints import Constraints

from . import options as shared
from .console import Console
from .destinations import ONNX, model_outputs
from .options import (
    DATA,
    METHOD,
    OUTPUT,
    TARGET,
    DataOptions,
    ModelOptions,
    ReportOptions,
    RunOptions,
    byte_count,
    option,
    refuse_beside,
    refuse_without,
    shape,
    takes,
)
from .recommend_generate import GENERATE_ONLY, GenerateOptions, generate
from .recommend_train import TRAINING_ONLY, train
from .results import check_outputs, data_fields, deliver, drawn_seed, files_read, model_fields, run_fields

SUFFIX = ".recommended.onnx"


@dataclass(frozen=True)
class RecommendOptions(GenerateOptions, DataOptions, ModelOptions):
    """All that can be said to `compresskit recommend`."""

    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="A .onnx, .pt, .pth, .safetensors or .pt2 file, a zoo name, module:factory, or -."),
    ] = None  # type: ignore[assignment]
    data: Annotated[
        list[str] | None,
        option(DATA, "Samples, as prune takes them; may repeat with --train.", "--data", metavar="D"),
    ] = None  # type: ignore[assignment]
    compression: Annotated[
        float | None, option(TARGET, "Parameters in at least this many times fewer bits: 20.", "--compression", metavar="X", min=1)
    ] = None
    min_accuracy: Annotated[
        float | None, option(TARGET, "The highest compression that keeps this accuracy: 0.9.", "--min-accuracy", metavar="A", min=0, max=1)
    ] = None
    max_error: Annotated[float | None, option(TARGET, "Likewise for numbers: the largest RMSE.", "--max-error", metavar="E", min=0)] = None
    size: Annotated[str | None, option(TARGET, "Parameters in at most so many bytes: 200KB.", "--size", metavar="N")] = None
    latency: Annotated[str | None, option(TARGET, "At most this time in ONNX Runtime here: 2ms.", "--latency", metavar="T")] = None
    top: Annotated[int, option(OUTPUT, "How many settings to show.", "--top", metavar="N", min=1)] = RecommendConfig.top
    predictor: Annotated[
        str | None, option(METHOD, "Predict with this file of recommend --train, not with what ships.", "--predictor", metavar="FILE")
    ] = None
    verify: Annotated[int, option(METHOD, "Carry out the first N settings: predicted against real.", "--verify", metavar="N", min=0)] = 0
    apply: Annotated[str | None, option(METHOD, "Carry out the best, or the N-th, and write it.", "--apply", metavar="best|N")] = None
    explain: Annotated[bool, option(METHOD, "Say which features drove the first, and which problems are near.", "--explain")] = False
    output: Annotated[
        list[str] | None, option(OUTPUT, "Write here: what is applied (.onnx), or the predictor.", "-o", "--output", metavar="FILE")
    ] = None
    stdout: Annotated[bool, option(OUTPUT, "Write the model that is applied to the standard output.", "-c", "--stdout")] = False
    seed: shared.DrawnSeed = None
    dry_run: shared.DryRun = False


@takes(RecommendOptions)
def recommend(console: Console, options: RecommendOptions) -> None:
    """Say which way to compress a model meets a constraint best, predicted without trying; carry it out if asked.

    Examples:
      compresskit recommend net.pt --data digits.npz --compression 20
      compresskit recommend net.onnx --data digits.npz --min-accuracy 0.90
      compresskit recommend net.pt --data digits.npz --size 200KB --latency 2ms --json
      compresskit recommend net.pt --data digits.npz --compression 20 --apply best -o small.onnx
      compresskit recommend net.pt --data digits.npz --compression 20 --verify 5
      compresskit recommend --train --models nets/ --data digits.npz -o my.predictor
      compresskit recommend --generate 10000 --data digits.npz -o eval.npz
    """
    if options.train or options.generate is not None:
        _train_or_generate(console, options)
        return
    refuse_without(console, "--train", TRAINING_ONLY)
    refuse_without(console, "--generate", GENERATE_ONLY)
    if options.model is None:
        raise UsageError("name the model to recommend for: a file, a zoo name, module:factory, or -")
    data = _one(options.data)
    if options.apply is None:
        refuse_without(console, "--apply", ("output", "stdout"))
    inputs = files_read(options, data, options.predictor)
    outputs: tuple[str, ...] = ()
    if options.apply is not None:
        outputs = model_outputs(options, options.model, SUFFIX, formats=(ONNX,), why="what is applied is written as .onnx")
    check_outputs(console, options, outputs, what="the model", inputs=inputs, drawings={})
    request = RecommendRequest(
        **model_fields(console, options),
        **{**data_fields(options), "data": data},
        **run_fields(console, options),
        config=_config(options),
        outputs=outputs,
        predictor=options.predictor,
    )
    # Only now, so that --help and wrong options are answered at once.
    from compresskit.recommend.pipeline import run

    from .recommend_tables import report_tables

    with console.progress() as progress:
        outcome = run(request, progress)
    report = outcome.report
    write = not options.dry_run
    deliver(console, options, report, report_tables(report), outcome.standard_output, inputs=inputs, warnings=report.warnings, write=write)


def _train_or_generate(console: Console, options: RecommendOptions) -> None:
    """Do what needs no model to recommend for."""
    everything = {field.name for field in fields(RecommendOptions)}
    common = {field.name for part in (ReportOptions, RunOptions) for field in fields(part)} | {"data", "output", "seed", "max_bytes"}
    common -= {"threads"}
    data, outputs = tuple(options.data or ()), tuple(options.output or ())
    limit = byte_count(options.max_bytes, "--max-bytes")
    if options.generate is None:
        refuse_beside(console, "--train", everything - common - TRAINING_ONLY - {"train", "budget", "trust"})
        # A drawn seed would make other trials of every run, and none could go on where another stopped.
        seed = TrainRequest.seed if options.seed is None else options.seed
        train(console, options, data, outputs, seed=seed, trust=options.trust, max_bytes=limit)
        return
    refuse_beside(console, "--generate", everything - common - GENERATE_ONLY - {"generate", "input", "label_column", "threads"})
    given = {"input_shape": shape(options.input, "--input"), "label_column": options.label_column}
    generate(console, options, options.generate, _one(options.data), outputs, seed=_seed(options), max_bytes=limit, **given)


def _config(options: RecommendOptions) -> RecommendConfig:
    constraints = Constraints(
        compression=options.compression,
        accuracy=options.min_accuracy,
        error=options.max_error,
        size=byte_count(options.size, "--size"),
        latency=_milliseconds(options.latency),
    )
    return RecommendConfig(
        constraints,
        top=options.top,
        verify=options.verify,
        apply=_place(options.apply),
        budget=options.budget or RecommendConfig.budget,
        explain=options.explain,
        seed=_seed(options),
    )


def _milliseconds(text: str | None) -> float | None:
    if text is None:
        return None
    target = parse_target("latency", text)
    if not target.absolute:
        raise UsageError(f"--latency takes a time such as 2ms, not {text!r}")
    return target.value


def _place(text: str | None) -> int | None:
    if text is None or text == "best":
        return None if text is None else 1
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--apply {text!r}: expected best, or a place from 1 on")
    return int(text)


def _seed(options: RecommendOptions) -> int:
    return drawn_seed(options.seed)


def _one(data: list[str] | None) -> str | None:
    if data is not None and len(data) > 1:
        raise UsageError("--data may repeat with --train alone: give one")
    return data[0] if data else None
