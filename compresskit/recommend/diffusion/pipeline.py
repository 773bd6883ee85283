"""`recommend --generate`: from a data set to generated samples of it, as an `.npz` that every command reads."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from compresskit.data import Limits, Split, load_data, sample_shape
from compresskit.errors import UsageError
from compresskit.progress import SILENT, Progress
from compresskit.recommend.config import GenerateRequest
from compresskit.recommend.diffusion.generate import GenerateConfig, generate
from compresskit.recommend.report import GenerateReport
from compresskit.report import Output
from compresskit.requests import paths_of
from compresskit.runtime import Clock, set_threads
from compresskit.training import checkpoints
from compresskit.writers import check_target, write_bytes

SHOWN = 8
"""Samples of a class in the picture."""


def run(request: GenerateRequest, progress: Progress = SILENT) -> GenerateReport:
    """Do what `compresskit recommend --generate` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    output = Path(request.output)
    if output.suffix != ".npz":
        raise UsageError(f"cannot write {output}: generated samples are written as .npz")
    if request.plot is not None and Path(request.plot).suffix.lower() != ".png":
        raise UsageError(f"cannot write {request.plot}: --plot draws a .png")
    protect = paths_of(request.data)
    check_target(output, force=request.force, protect=protect)
    clock = Clock()
    threads = set_threads(request.threads or 0)
    limits = Limits() if request.max_bytes is None else Limits(max_bytes=request.max_bytes)
    with clock("read"):
        progress.stage("read")
        shape = request.input_shape or sample_shape(request.data, label_column=request.label_column, limits=limits)
        data = load_data(request.data, input_shape=shape, seed=request.seed, label_column=request.label_column, limits=limits, progress=progress)
        if request.plot is not None:
            _check_pictures(data.train)
    kept = None if request.checkpoint is None else Path(request.checkpoint)
    config = GenerateConfig(
        request.count, epochs=request.epochs, checkpoint=kept, checkpoint_minutes=request.checkpoint_minutes, resume=request.resume, seed=request.seed
    )
    with clock("generate"):
        drawn = generate(data, config, progress)
    content = _packed(drawn)
    write_bytes(output, content, force=request.force, protect=protect)
    outputs = [Output(request.output, "npz", len(content))]
    if request.plot is not None:
        picture = contact_sheet(drawn)
        write_bytes(Path(request.plot), picture, force=request.force, protect=protect)
        outputs.append(Output(request.plot, "png", len(picture)))
    if kept is not None:
        checkpoints.discard(kept)
    return GenerateReport(
        command="recommend --generate",
        arguments=request.arguments,
        seed=request.seed,
        threads=threads,
        settings={"epochs": config.epochs, "steps": config.steps, "guidance": config.guidance},
        shape=shape,
        count=len(drawn),
        stages=clock.seconds,
        outputs=tuple(outputs),
    )


def _check_pictures(split: Split) -> None:
    """Find out, before anything is trained, whether samples can be drawn.

    Raises:
        UsageError: they are no pictures of one or three channels.
    """
    if split.x.ndim != 4 or split.x.shape[1] not in (1, 3) or split.x.dtype != np.uint8:
        raise UsageError("--plot draws samples of 1 or 3 channels of pixels, and these are others")


def contact_sheet(split: Split) -> bytes:
    """A PNG of some samples of each class, a row a class; `split` holds pictures of one or three channels."""
    channels, height, width = split.x.shape[1:]
    classes = np.unique(split.y)
    sheet = np.zeros((len(classes) * height, SHOWN * width, channels), np.uint8)
    for row, label in enumerate(classes):
        for column, index in enumerate(np.flatnonzero(split.y == label)[:SHOWN]):
            sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = split.x[index].transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet).save(stream, "PNG")
    return stream.getvalue()


def _packed(split: Split) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x_train=split.x, y_train=split.y)
    return stream.getvalue()
