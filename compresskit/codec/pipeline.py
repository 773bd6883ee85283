"""`encode` from files to a stream: read, choose, encode, check, write, report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from compresskit.cluster import Workers
from compresskit.codec import modalities, shelf
from compresskit.codec.base import Base
from compresskit.codec.config import EncodeConfig, EncodeRequest
from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.describe import stream_info
from compresskit.codec.distortion import distortion
from compresskit.codec.encoder import Coded, Samples, Work, encode_plain, is_globe
from compresskit.codec.guard import Guard
from compresskit.codec.rates import encode_at_target, over, size_limit
from compresskit.codec.reports import EncodeOutcome, EncodeReport
from compresskit.codec.settings import COIN_STEPS, STEPS
from compresskit.codec.signal import Signal
from compresskit.codec.stream import Header
from compresskit.data.files import read_bytes
from compresskit.data.limits import DEFAULT_LIMITS, Limits
from compresskit.errors import CompresskitError, GuardError, InputError, UsageError
from compresskit.progress import SILENT, Progress
from compresskit.report import Output
from compresskit.runtime import Clock, set_threads
from compresskit.writers import STDOUT, check_target, write_bytes

STDIN = STDOUT


def encode(request: EncodeRequest, progress: Progress = SILENT) -> EncodeOutcome:
    """Do what `compresskit encode` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    clock = Clock()
    _check_outputs(request)
    threads = set_threads(request.threads)
    with clock("read"):
        progress.stage("read", len(request.inputs))
        sizes, signals = zip(*_read_all(request, progress), strict=True)
    with clock("encode"):
        work = _work(request.config, signals, Workers(request.jobs, request.cluster), progress)
        failure: CompresskitError | None
        coded, failure = encode_at_target(work, request.config)
        plain = encode_plain(work)
        warnings = list(_warnings(request.config, coded, plain))
        if request.config.fallback and len(plain.data) < len(coded.data):
            coded, failure = plain, over(plain, size_limit(signals, request.config))
    if request.config.verify:
        with clock("verify"):
            failure = _verified(coded, signals, work.base) or failure
    guarded = isinstance(failure, GuardError)
    outputs = [] if guarded or request.dry_run else _write(request, coded.data)
    if request.preview is not None and not guarded and not request.dry_run:
        from compresskit.codec.preview import draw

        draw(signals[0], replace(signals[0], values=coded.decoded[0]), Path(request.preview), force=request.force)
        outputs.append(Output(request.preview, "preview", Path(request.preview).stat().st_size))
    base = work.base if coded.stream.header.method == "coin++" else None
    report = EncodeReport(
        command="encode",
        arguments=request.arguments,
        seed=request.config.seed,
        threads=threads,
        settings=_settings(request.config, work, base),
        stream=stream_info(coded.stream, coded.data, base, [distortion(s, d) for s, d in zip(signals, coded.decoded, strict=True)]),
        input_bytes=sum(sizes),
        deflate_bytes=sum(map(len, plain.stream.chunks)),
        ratio=sum(sizes) / len(coded.data),
        verified=request.config.verify and not guarded,
        stages=clock.seconds,
        warnings=tuple(warnings),
        outputs=tuple(outputs),
    )
    return EncodeOutcome(report, coded.data if outputs and request.output == STDOUT else None, failure)


def _check_outputs(request: EncodeRequest) -> None:
    """Find out, before any work is done, whether the stream and its preview can be written."""
    if request.dry_run:
        return
    inputs = _files(request)
    if request.output != STDOUT:
        check_target(Path(request.output), force=request.force, protect=inputs)
    if request.preview is not None:
        from compresskit.codec.preview import check_preview

        check_preview(Path(request.preview))
        check_target(Path(request.preview), force=request.force, protect=inputs)
        if Path(request.preview).resolve() == Path(request.output).resolve():
            raise UsageError(f"--preview and -o are one file, {request.output}: name another")


def _read_all(request: EncodeRequest, progress: Progress) -> Iterator[tuple[int, Signal]]:
    """Size as a file, and signal, of every input."""
    with ThreadPoolExecutor(max(request.jobs, 1)) as pool:
        for pair in pool.map(lambda name: _read(request, name), request.inputs):
            progress.advance()
            yield pair


def _read(request: EncodeRequest, name: str) -> tuple[int, Signal]:
    data = request.standard_input or b"" if name == STDIN else read_bytes(name)
    limits = DEFAULT_LIMITS if request.max_bytes is None else Limits(max_bytes=request.max_bytes)
    stem = "" if name == STDIN else Path(name).name
    return len(data), modalities.read(data, stem or "standard input", format=request.format, variable=request.variable, limits=limits)


def _work(config: EncodeConfig, signals: Sequence[Signal], workers: Workers, progress: Progress) -> Work:
    """What is to be done, with the base network that it takes."""
    guard = Guard("lossless") if config.lossless else Guard("max-error", config.max_error) if config.max_error is not None else Guard()
    base = None if config.method == "coin" else _base(config, signals)
    if config.method == "coin++" and base is None:
        raise UsageError(f"no base network ships for {signals[0].modality} data of shape {signals[0].values.shape}: give one with --base")
    steps = config.steps or (STEPS if base is not None else COIN_STEPS)
    if config.progressive and base is None:
        raise UsageError(f"--progressive orders latents, and no base network ships for {signals[0].modality} data like this: give one with --base")
    return Work(signals, base, steps, guard, config.embed_base, workers, progress, config.effort, config.contexts, config.progressive)


def _base(config: EncodeConfig, signals: Sequence[Signal]) -> Base | None:
    """The one base network that all signals share."""
    kinds = {(is_globe(signal), signal.values.ndim - 2, min(signal.values.shape[-1], 3) // 3) for signal in signals}
    if len(kinds) > 1:
        raise UsageError("an archive holds signals of one kind, and these differ in dimensions or colour: encode each kind apart")
    sphere, axes, _ = next(iter(kinds))
    if config.base is not None:
        base = shelf.named(config.base)
        if base.axes != axes or (base.geometry == "sphere") != sphere:
            raise UsageError(f"{config.base} is for {_kind(base.geometry == 'sphere', base.axes)}, and this is {_kind(sphere, axes)}")
        return base
    return shelf.suited(sphere=sphere, axes=axes, channels=signals[0].values.shape[-1])


def _kind(sphere: bool, axes: int) -> str:
    return "fields on the globe" if sphere else f"grids of {axes} {'axis' if axes == 1 else 'axes'}"


def _warnings(config: EncodeConfig, coded: Coded, plain: Coded) -> Iterator[str]:
    if config.progressive and coded.stream.header.method == "plain":
        yield "the samples are stored themselves, which --progressive cannot order"
    if len(plain.data) < len(coded.data):
        what = "they are stored in its place" if config.fallback else "--fallback stores them in its place"
        yield f"with deflated samples, without any loss, the stream would have {len(plain.data)} bytes, and has {len(coded.data)}: {what}"


def _verified(coded: Coded, signals: Sequence[Signal], base: Base | None) -> CompresskitError | None:
    """Decode the bytes as a reader would, and compare with what was measured, and with what was promised."""
    try:
        for signal, decoded, expected in zip(signals, unpacked_signals(coded.data, base), coded.decoded, strict=True):
            problem = _difference(signal, decoded, expected, coded.stream.header)
            if problem:
                return GuardError(f"--verify: {signal.name} {problem}: nothing was written; please report it")
    except InputError as error:
        return GuardError(f"--verify: the stream cannot be decoded ({error}): nothing was written; please report it")
    return None


def _difference(signal: Signal, decoded: Signal, expected: Samples, header: Header) -> str:
    """What is wrong with a decoded signal; "" for nothing."""
    if not _same_bytes(decoded.values, expected):
        return "does not decode to what was measured"
    if decoded.metadata != signal.metadata or not np.array_equal(decoded.missing, signal.missing):  # type: ignore[arg-type]  # None is equal to None
        return "loses metadata or its missing samples"
    if header.guard == "lossless" and not _same_bytes(decoded.values, signal.values):
        return "is not restored without loss"
    if header.guard == "max-error" and distortion(signal, decoded.values).max_error > header.tolerance:
        return f"is off by more than {header.tolerance:g}"
    return ""


def _same_bytes(one: Samples, other: Samples) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _write(request: EncodeRequest, data: bytes) -> list[Output]:
    if request.output != STDOUT:
        write_bytes(Path(request.output), data, force=request.force, protect=_files(request))
    return [Output(request.output, "coinpp", len(data))]


def _files(request: EncodeRequest) -> list[Path]:
    return [Path(name) for name in request.inputs if name != STDIN]


def _settings(config: EncodeConfig, work: Work, base: Base | None) -> dict[str, Any]:
    given = {name: value for name, value in asdict(config).items() if name != "seed" and value is not None and value is not False}
    return {**given, "steps": work.steps, "base": base.name if base is not None else ""}
