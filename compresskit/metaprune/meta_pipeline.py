"""`metaprune --train` from files to file: read the networks and the data, train a metanetwork, choose its epoch, write it, report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from compresskit.data import Dataset, interface, read_data
from compresskit.errors import InputError
from compresskit.metaprune.config import MetatrainRequest
from compresskit.metaprune.epochs import Epochs
from compresskit.metaprune.judge import Judge
from compresskit.metaprune.network import Metanetwork, MetanetworkConfig, save
from compresskit.metaprune.reports import Judged, MetatrainReport
from compresskit.metaprune.select import best, select
from compresskit.metaprune.train import metatrain
from compresskit.models.graph import ModelGraph
from compresskit.models.info import model_info
from compresskit.models.load import load_model
from compresskit.progress import SILENT, Progress
from compresskit.report import Output
from compresskit.runtime import Clock, seed_everything, select_device, set_threads
from compresskit.training import checkpoints
from compresskit.training.ranks import join
from compresskit.training.state import EpochRecord
from compresskit.training.tuning import checkpointing
from compresskit.writers import write_bytes


def run(request: MetatrainRequest, progress: Progress = SILENT) -> MetatrainReport:
    """Do what `compresskit metaprune --train` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe. The epochs that were trained by then stay in their folder.
    """
    clock, config = Clock(), request.config
    threads, device = set_threads(request.threads or 0), select_device(request.device)
    seed_everything(config.seed)
    with clock("read"):
        progress.stage("read")
        graphs = _networks(request)
        data = read_data(request, interface(graphs[0]), seed=config.seed, progress=progress)
    check_classes(graphs[0], data)
    metanetwork = Metanetwork(MetanetworkConfig(config.layers, config.width, config.scale, config.scale))
    kept = Epochs.beside(Path(request.output), force=request.force or request.resume)
    kept.check(config.epochs)
    with clock("train"):
        history = _trained(request, metanetwork, graphs, data, kept, device, progress)
    judge = Judge(graphs[0], data, config, device, progress)
    with clock("select"):
        original = judge.curve(None)
        least = original[0].accuracy - config.tolerance
        judged = select(config.epochs, lambda epoch: judge.curve(kept.read(epoch)), least)
    chosen = best(judged)
    return MetatrainReport(
        command="metaprune --train",
        arguments=request.arguments,
        seed=config.seed,
        threads=threads,
        settings={name: value for name, value in asdict(config).items() if name != "seed"},
        device=str(device),
        model=model_info(graphs[0].source, graphs[0].arch, graphs[0].inputs),
        models=tuple(graph.source for graph in graphs),
        parameters=sum(parameter.numel() for parameter in metanetwork.parameters()),
        losses=tuple(record.loss for record in history),
        least=least,
        original=original,
        judged=judged,
        chosen=chosen.epoch,
        kept=str(kept.folder),
        stages=clock.seconds,
        warnings=tuple(_warnings(chosen, least)),
        outputs=(_write(request, save(kept.read(chosen.epoch)), device),),
    )


def _trained(
    request: MetatrainRequest,
    metanetwork: Metanetwork,
    graphs: Sequence[ModelGraph],
    data: Dataset,
    kept: Epochs,
    device: torch.device,
    progress: Progress,
) -> tuple[EpochRecord, ...]:
    """Train `metanetwork`, with every epoch kept by the first process; then wait for it."""

    def keep(epoch: int) -> None:
        if join(device).rank == 0:
            kept.save(epoch, metanetwork)

    state = checkpointing(request)
    history = metatrain(metanetwork, graphs, data, request.config, keep=keep, device=device, checkpointing=state, progress=progress)
    if dist.is_initialized():
        dist.barrier()
    return history


def _write(request: MetatrainRequest, content: bytes, device: torch.device) -> Output:
    """Write the metanetwork, once for all processes, and remove the state of the training."""
    if join(device).rank == 0:
        write_bytes(Path(request.output), content, force=request.force, protect=request.files_read(*request.others))
        if request.checkpoint is not None:
            checkpoints.discard(Path(request.checkpoint))
    return Output(request.output, "safetensors", len(content))


def check_classes(graph: ModelGraph, data: Dataset) -> None:
    """Compare the classes that `data` have with those that `graph` tells apart.

    Raises:
        InputError: the data have other classes, or numbers: a curve is one of accuracy.
    """
    if data.classes is None:
        raise InputError("the targets are numbers: a metanetwork learns from classes")
    found = len(np.unique(data.train.y))
    if found != data.classes:
        raise InputError(
            f"the training data have {found} classes, and {graph.source} tells {data.classes} apart: give the data that it was trained on"
        )


def _networks(request: MetatrainRequest) -> list[ModelGraph]:
    """The networks to learn from.

    Raises:
        InputError: two of them take or give different things, or a batch is baked in.
    """
    graphs = [
        load_model(name, arch=request.arch, input_shape=request.input_shape, trust=request.trust, max_bytes=request.max_bytes)
        for name in (request.model, *request.others)
    ]
    for graph in graphs:
        if not graph.free_batch:
            raise InputError(f"{graph.source}: its batch of {graph.inputs[0].shape[0]} is baked in, so it cannot be trained on")
        if _faces(graph) != _faces(graphs[0]):
            raise InputError(
                f"{graph.source} maps {_faces(graph)}, and {graphs[0].source} {_faces(graphs[0])}: one data set has to serve all networks"
            )
    return graphs


def _faces(graph: ModelGraph) -> str:
    """What goes in and comes out, the batch left out."""
    sides = ([" x ".join(map(str, spec.shape[1:])) for spec in specs] for specs in (graph.inputs, graph.outputs))
    return " to ".join(", ".join(side) for side in sides)


def _warnings(chosen: Judged, least: float) -> Iterator[str]:
    if chosen.accuracy < least:
        yield (
            f"no epoch that was looked at keeps an accuracy of {least:.4f}; the best has {chosen.accuracy:.4f}: "
            "train with a smaller --pruner-reg, or judge with more --tuning"
        )
