"""`decode` from a stream to files: read, check, decode, cut out or refine, write, report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from compresskit.codec import modalities, shelf
from compresskit.codec.base import Base
from compresskit.codec.bitstream import unpack
from compresskit.codec.config import DecodeRequest
from compresskit.codec.decoder import Opened, decode_items, open_stream
from compresskit.codec.describe import stream_info
from compresskit.codec.encoder import digest_of
from compresskit.codec.limits import DEFAULT_STREAM_LIMITS, StreamLimits
from compresskit.codec.regions import cut_out, parse_region, refined
from compresskit.codec.reports import DecodeOutcome, DecodeReport, StreamInfo
from compresskit.codec.signal import Signal
from compresskit.errors import InputError, UsageError
from compresskit.progress import SILENT, Progress
from compresskit.report import Output
from compresskit.runtime import Clock, set_threads, versions
from compresskit.writers import write_bytes

STDIN = STDOUT = "-"
ITEM_NAME = "item{:05d}"


def decode(request: DecodeRequest, progress: Progress = SILENT) -> DecodeOutcome:
    """Do what `compresskit decode` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    clock = Clock()
    threads = set_threads(request.threads)
    limits = _limits(request.max_memory)
    with clock("read"):
        data = read_stream(request)
        opened = open_stream(unpack(data, limits), shelf.named(request.base) if request.base else None)
    chosen = _chosen(opened, request.item)
    with clock("decode"):
        progress.stage("decode", _patches(opened, chosen))
        signals = list(decode_items(opened, chosen, request.scale, progress))
        verified = _check_digest(opened, chosen, signals, request.scale)
        signals = [refined(signal, request.scale) for signal in signals]
        if request.region is not None:
            signals = [cut_out(signal, parse_region(request.region)) for signal in signals]
    outputs: list[Output] = []
    standard_output = None
    if not request.test:
        with clock("write"):
            outputs, standard_output = _write(request, signals)
    report = DecodeReport(
        command="decode",
        arguments=request.arguments,
        versions=versions(),
        threads=threads,
        stream=stream_info(opened.stream, data, opened.base, limits=limits),
        verified=verified,
        stages=clock.seconds,
        outputs=tuple(outputs),
    )
    return DecodeOutcome(report, standard_output)


def describe(data: bytes, max_memory: int | None = None) -> StreamInfo:
    """What a stream holds, without decoding it; its base network need not be at hand.

    Raises:
        InputError: it is no stream, or a damaged one.
    """
    limits = _limits(max_memory)
    stream = unpack(data, limits)
    base = None
    if stream.header.base:
        try:
            base = open_stream(stream).base
        except InputError:
            base = None
    return stream_info(stream, data, base, limits=limits)


def unpacked_signals(data: bytes, base: Base | None) -> Iterator[Signal]:
    """All signals of a stream, decoded as any reader would."""
    opened = open_stream(unpack(data), base)
    return decode_items(opened, range(len(opened.stream.items)))


def read_stream(request: DecodeRequest) -> bytes:
    """The bytes of the input.

    Raises:
        InputError: it cannot be read.
    """
    if request.input == STDIN:
        return request.standard_input or b""
    try:
        return Path(request.input).read_bytes()
    except OSError as error:
        raise InputError(f"{request.input}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def _limits(max_memory: int | None) -> StreamLimits:
    return DEFAULT_STREAM_LIMITS if max_memory is None else StreamLimits(max_memory)


def _chosen(opened: Opened, item: int | None) -> Sequence[int]:
    count = len(opened.stream.items)
    if item is None:
        return range(count)
    if not 0 <= item < count:
        raise UsageError(f"--item {item} is not in the stream: it has items 0 to {count - 1}")
    return [item]


def _patches(opened: Opened, chosen: Sequence[int]) -> int | None:
    return sum(opened.layouts[number].patches(opened.base) for number in chosen) if opened.base is not None else None


def _check_digest(opened: Opened, chosen: Sequence[int], signals: Sequence[Signal], scale: int) -> bool:
    """Whether the samples are those that were encoded, by the stream's own digest, where it covers what was decoded."""
    digest = opened.stream.header.digest
    if not digest or scale != 1 or len(chosen) != len(opened.stream.items):
        return False
    if digest_of([signal.values for signal in signals]) != digest:
        raise InputError("damaged bitstream: the decoded samples are not those that were encoded")
    return True


def _write(request: DecodeRequest, signals: Sequence[Signal]) -> tuple[list[Output], bytes | None]:
    """Write every signal; each file is complete or absent."""
    if request.output == STDOUT:
        if len(signals) != 1:
            raise UsageError(f"the stream holds {len(signals)} items, and the standard output takes one: choose with --item")
        format = request.format or modalities.default_output(signals[0])
        data = modalities.write(signals[0], format)
        return [Output(STDOUT, format, len(data))], data
    outputs = []
    for number, signal in enumerate(signals):
        path = _path(request, signal, number, many=len(signals) > 1)
        format = request.format or modalities.format_of_name(path.name) or modalities.default_output(signal)
        data = modalities.write(signal, format)
        if path.parent != Path() and request.output is not None and _is_folder(request.output):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data, force=request.force, protect=[Path(request.input)] if request.input != STDIN else [])
        outputs.append(Output(str(path), format, len(data)))
    return outputs, None


def _path(request: DecodeRequest, signal: Signal, number: int, *, many: bool) -> Path:
    """Where a signal goes: the output as named; under its own name into a folder; else beside the stream."""
    suffix = f".{request.format or modalities.default_output(signal)}"
    stem = signal.name.split(".")[0] or ITEM_NAME.format(number)
    if request.output is not None and not _is_folder(request.output):
        if many:
            raise UsageError(f"{request.output} would take the place of several files: name a folder (out/), or choose with --item")
        return Path(request.output)
    if request.output is not None:
        return Path(request.output) / f"{stem}{suffix}"
    source = Path(request.input if request.input != STDIN else "decoded")
    name = source.name.removesuffix(".coinpp")
    return source.with_name(f"{name}.{stem}.decoded{suffix}" if many else f"{name}.decoded{suffix}")


def _is_folder(name: str) -> bool:
    return name.endswith("/") or Path(name).is_dir()
