"""`quantize --robust` from file to files: read the model and the data, train, measure, write a float model, report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx

from compresskit.data import UNTESTED, Dataset, read_data
from compresskit.errors import InputError, UsageError
from compresskit.guards import accuracy_guard
from compresskit.models.checkpoint import CONTAINERS, Container, save_checkpoint
from compresskit.models.info import model_info
from compresskit.models.load import load_model
from compresskit.progress import SILENT, Progress
from compresskit.quantization.measure import onnx_accuracy
from compresskit.quantization.network import Network
from compresskit.quantization.prepare import prepare
from compresskit.quantization.robust.config import RobustConfig, RobustRequest
from compresskit.quantization.robust.report import RobustOutcome, RobustReport
from compresskit.quantization.robust.train import Robust, make_robust
from compresskit.quantization.source import Source, read_source, takes
from compresskit.quantization.static import planned
from compresskit.report import Accuracy, Output
from compresskit.requests import dry_run_warning
from compresskit.runtime import Clock, seed_everything, select_device, set_threads
from compresskit.training.tuning import checkpointing, discard_checkpoints
from compresskit.writers import STDOUT, write_bytes


def run(request: RobustRequest, progress: Progress = SILENT) -> RobustOutcome:
    """Do what `compresskit quantize --robust` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    if request.data is None:
        raise UsageError("--robust trains: give --data")
    config, clock = request.config, Clock()
    threads, device = set_threads(request.threads or 0), select_device(request.device or "auto")
    seed_everything(config.seed)
    with clock("read"):
        progress.stage("read")
        source = read_source(request)
        network = prepare(source.model, source.name)
        plan = planned(network, source.name)
        if len(network.inputs) != 1 or len(network.outputs) != 1:
            raise InputError(
                f"{source.name} has {len(network.inputs)} inputs and {len(network.outputs)} outputs: --robust trains models with one of each"
            )
        data = read_data(request, takes(source), seed=config.seed, progress=progress)
    kept = checkpointing(request)
    with clock("train"):
        done = make_robust(network, plan, data, config, source=source.name, device=device, checkpointing=kept, progress=progress)
    model = done.network.to_model()
    with clock("measure"):
        progress.stage("measure")
        accuracies = [_accuracy(one, network, data, threads) for one in (source.model, model)]
    failure = accuracy_guard(config.max_drop, *accuracies)
    written = [] if request.dry_run else _write(request, source, data, model)
    discard_checkpoints(request, 1 + len(done.trials))
    report = RobustReport(
        command="quantize",
        arguments=request.arguments,
        seed=config.seed,
        threads=threads,
        settings=_settings(config, data),
        device=str(device),
        model=model_info(source.name, source.arch, source.inputs),
        strength=done.strength,
        trials=done.trials,
        before=accuracies[0],
        after=accuracies[1],
        stages=clock.seconds,
        warnings=(*dry_run_warning(request, request.outputs), *_warnings(config, data, done)),
        outputs=tuple(written),
    )
    return RobustOutcome(report, model.SerializeToString() if STDOUT in request.outputs and written else None, failure)


def _accuracy(model: onnx.ModelProto, network: Network, data: Dataset, threads: int) -> Accuracy:
    return onnx_accuracy(model.SerializeToString(), network.inputs[0], data, batch=network.fixed_batch, threads=threads)


def _write(request: RobustRequest, source: Source, data: Dataset, model: onnx.ModelProto) -> list[Output]:
    """Write every output; each is complete or absent. The bytes for the standard output are the caller's to write."""
    exported, written = model.SerializeToString(), []
    for name in request.outputs:
        container = CONTAINERS.get(Path(name).suffix.lower())
        content = exported if container is None else _checkpoint(exported, source, data, container)
        if name != STDOUT:
            write_bytes(Path(name), content, force=request.force, protect=request.files_read())
        written.append(Output(name, container or "onnx", len(content)))
    return written


def _checkpoint(exported: bytes, source: Source, data: Dataset, container: Container) -> bytes:
    """The same model as a checkpoint of ours, which names what ONNX has no place for."""
    graph = replace(load_model(exported), source=source.name, normalization=data.normalization, classes=source.classes)
    return save_checkpoint(graph, container)


def _settings(config: RobustConfig, data: Dataset) -> dict[str, Any]:
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items() if name != "seed"}
    return {**settings, "normalization": data.normalization_said()}


def _warnings(config: RobustConfig, data: Dataset, done: Robust) -> Iterator[str]:
    if config.method != "none" and done.strength == 0:
        yield "no strength of the penalty held the accuracy on the validation split: this is the network trained without; --strength takes one"
    elif config.strength is not None and not done.trials[-1].held:
        yield f"strength {config.strength:g} costs accuracy on the validation split: leave --strength out to have it found"
    if data.test is None:
        yield UNTESTED
