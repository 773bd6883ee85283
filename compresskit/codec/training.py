"""`encode --train-base`: a base network from the user's own files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from compresskit.codec import modalities
from compresskit.codec.base import Base, save_base
from compresskit.codec.calibrate import calibrate
from compresskit.codec.config import TrainBaseRequest
from compresskit.codec.exact import MAX_WIDTH
from compresskit.codec.fit import solve
from compresskit.codec.kinds import KINDS, Kind
from compresskit.codec.metatrain import COMPONENT_PATCHES, Draw, TrainBaseConfig, train
from compresskit.codec.modulation import errors
from compresskit.codec.patchcode import modulated
from compresskit.codec.reports import TrainBaseReport
from compresskit.codec.signal import Signal
from compresskit.data.files import read_bytes
from compresskit.data.limits import DEFAULT_LIMITS, Limits
from compresskit.errors import InputError, UsageError
from compresskit.progress import SILENT, Progress
from compresskit.report import Output
from compresskit.runtime import Clock, set_threads
from compresskit.training.ranks import join, leads
from compresskit.wording import shown
from compresskit.writers import check_target, write_bytes

CHECK_PATCHES = 256
LEAST_BLOCK = 3  # patches along an axis of which one has neighbours on both sides
_SEED_OFFSET = 2  # so that neither the training nor the calibration drew these patches in the same order


def settings(kind: Kind, request: TrainBaseRequest) -> TrainBaseConfig:
    """The training that `request` asks for.

    Raises:
        UsageError: a size is out of range.
    """
    sizes = {"--steps": request.steps, "--latents": request.latents, "--width": request.width, "--depth": request.depth}
    most = {"--latents": min(COMPONENT_PATCHES, math.prod(kind.edges) * kind.channels), "--width": MAX_WIDTH}
    for name, size in sizes.items():
        if size is not None and not 1 <= size <= most.get(name, size):
            raise UsageError(f"{name} {size} is out of range: give 1 {f'to {most[name]}' if name in most else 'or more'}")
    defaults = kind.config
    return replace(
        defaults,
        width=request.width or defaults.width,
        depth=request.depth or defaults.depth,
        latents=request.latents or defaults.latents,
        start=min(defaults.start, request.steps or defaults.start),
        steps=request.steps or defaults.steps,
        seed=request.seed,
        checkpoint=Path(request.checkpoint) if request.checkpoint else None,
        resume=request.resume,
    )


def train_base(request: TrainBaseRequest, progress: Progress = SILENT) -> TrainBaseReport:
    """Do what `compresskit encode --train-base` says it does; of the processes that `torchrun` started, the first alone writes.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    if request.modality not in KINDS:
        raise UsageError(f"unknown modality {request.modality!r}: choose from {', '.join(KINDS)}")
    kind, clock = KINDS[request.modality], Clock()
    config = settings(kind, request)
    files = training_files(request.inputs)
    check_target(Path(request.output), force=request.force, protect=files)
    if config.checkpoint is not None:
        check_target(config.checkpoint, force=True, protect=files)
    join(torch.device("cpu"))
    progress = progress if leads() else SILENT
    threads = set_threads(request.threads)
    with clock("read"):
        progress.stage("read")
        signals = _signals(request, kind, files, progress)
        kind = kind.for_data(signals)
        sources = [kind.frames(signal) for signal in signals]
        draw = crops(sources, kind.edges)
    x = kind.coordinates()
    with clock("train"):
        trained = train(draw, x, config, progress, edges=kind.grid)
    with clock("calibrate"):
        progress.stage("calibrate")
        name = Path(request.output).name.split(".")[0]
        blocks = blocks_of(sources, kind)
        base = calibrate(trained, draw, x, config, name=name, geometry=kind.geometry, edges=kind.edges, blocks=blocks)
        data = save_base(base)
        loss = _loss(base, kind, draw, config)
    if leads():
        write_bytes(Path(request.output), data, force=request.force, protect=files)
    return TrainBaseReport(
        command="encode",
        arguments=request.arguments,
        seed=config.seed,
        threads=threads,
        settings={key: value for key, value in asdict(config).items() if key not in ("checkpoint", "seed")},
        curve=trained.curve,
        psnr=round(-10 * math.log10(max(loss, 1e-12)), 3),
        stages=clock.seconds,
        outputs=(Output(request.output, "base", len(data)),),
    )


def training_files(inputs: Sequence[str]) -> tuple[Path, ...]:
    """Files that `inputs` name, and those in the folders among them that look like data by name or content. None of them is ever overwritten."""
    files: list[Path] = []
    for path in map(Path, inputs):
        files += sorted(file for file in path.rglob("*") if file.is_file() and _looks_like_data(file)) if path.is_dir() else [path]
    return tuple(files)


def _looks_like_data(file: Path) -> bool:
    if modalities.format_of_name(file.name) is not None:
        return True
    try:
        modalities.sniff(read_bytes(file), file.name)
    except InputError:
        return False
    return True


def _signals(request: TrainBaseRequest, kind: Kind, files: Sequence[Path], progress: Progress) -> list[Signal]:
    """Those of the `files` that suit the modality. One that was found in a folder and cannot be read is skipped, with a note.

    Raises:
        InputError: a file that was named itself cannot be read, or nothing suits.
    """
    limits = DEFAULT_LIMITS if request.max_bytes is None else Limits(max_bytes=request.max_bytes)
    named, found = set(map(Path, request.inputs)), []
    for file in files:
        try:
            signal = modalities.read(read_bytes(file), file.name, variable=request.variable, limits=limits)
        except InputError as error:
            if file in named:
                raise
            progress.note(f"{shown(str(file))} is skipped: {str(error).removeprefix(f'{shown(file.name)}: ')}")
            continue
        if kind.suits(signal):
            found.append(signal)
    if not found:
        wanted = "fields all around the globe" if kind.geometry == "sphere" else f"data of at least {'x'.join(map(str, kind.edges))} samples"
        raise InputError(f"no file to train on: expected {request.modality} {wanted}")
    return found


def _loss(base: Base, kind: Kind, draw: Draw, config: TrainBaseConfig) -> float:
    """Mean squared error of new patches as they will be fitted; of no more than the training looked at."""
    generator = torch.Generator().manual_seed(config.seed + _SEED_OFFSET)
    patches, x = draw(min(CHECK_PATCHES, config.patches), generator), kind.coordinates()
    network, _ = modulated(base)
    return float(errors(network, x, patches, solve(network, x, patches))[0].mean())


def blocks_of(sources: Sequence[Tensor], kind: Kind) -> tuple[Draw, tuple[int, ...]]:
    """Where patches come from that lie next to each other, and how many along each axis: as many as there is room for, in some of the `sources`."""
    for count in (kind.block, LEAST_BLOCK):
        edges = tuple(count * edge for edge in kind.edges)
        large = [source for source in sources if all(size >= edge for size, edge in zip(source.shape[1:-1], edges, strict=True))]
        if large and kind.geometry != "sphere":
            return crops(large, edges), (count,) * len(edges)
    return crops(sources, kind.edges), (1,) * len(kind.edges)


def crops(sources: Sequence[Tensor], edges: tuple[int, ...], weights: Sequence[float] | None = None) -> Draw:
    """Patches (count, N, channels) at random places of `sources` (frames, *spatial, channels).

    Args:
        sources: each of at least `edges`; of those edges, its frames are drawn whole.
        edges: of a patch.
        weights: how likely each source is; None: as it has samples.
    """
    chances = torch.tensor([source[..., 0].numel() for source in sources] if weights is None else weights, dtype=torch.float64)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        patches = []
        for index in torch.multinomial(chances, count, replacement=True, generator=generator).tolist():
            array = sources[index]
            for axis, edge in enumerate((1, *edges)):
                room = array.shape[axis] - edge
                array = array.narrow(axis, int(torch.randint(room + 1, (), generator=generator)), edge)
            patches.append(array.reshape(-1, array.shape[-1]))
        return torch.stack(patches)

    return draw
