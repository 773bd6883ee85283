"""`decode` from a stream to files: read, check, decode, cut out or refine, write, report."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from compresskit.codec import modalities, shelf
from compresskit.codec.base import Base
from compresskit.codec.bitstream import unpack
from compresskit.codec.config import DecodeRequest
from compresskit.codec.decoder import decode_items
from compresskit.codec.describe import stream_info
from compresskit.codec.encoder import digest_of
from compresskit.codec.limits import DEFAULT_STREAM_LIMITS, StreamLimits
from compresskit.codec.opened import Opened, check_kinds, open_stream
from compresskit.codec.regions import cut_out, parse_region, positions, refined
from compresskit.codec.reports import DecodeOutcome, DecodeReport, Remains, StreamInfo
from compresskit.codec.signal import Signal
from compresskit.codec.stream import Stream
from compresskit.codec.workspace import check_memory, check_work
from compresskit.data.files import read_bytes
from compresskit.errors import InputError, OutputError, UsageError
from compresskit.progress import SILENT, Progress
from compresskit.report import Output
from compresskit.runtime import Clock, set_threads
from compresskit.wording import shown
from compresskit.writers import STDOUT, check_target, is_folder, write_bytes

STDIN = STDOUT
SUFFIX = ".coinpp"
ITEM_NAME = "item{:05d}"


def decode(request: DecodeRequest, progress: Progress = SILENT) -> DecodeOutcome:
    """Do what `compresskit decode` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    clock = Clock()
    threads = set_threads(request.threads)
    limits = _limits(request.max_memory, request.max_macs)
    with clock("read"):
        data = read_stream(request)
        stream = _unpacked(data, request.input, limits, partial=request.partial)
        opened = open_stream(stream, shelf.named(request.base) if request.base else None)
    chosen = _chosen(opened, request.item)
    check_memory(opened, chosen, request.scale, limits)
    region = None if request.region is None else parse_region(request.region)
    parts = {number: positions(region, opened.stream.items[number], request.scale) for number in chosen if region is not None}
    check_work(opened, chosen, request.scale, parts, limits)
    with clock("decode"):
        progress.stage("decode", _patches(opened, chosen))
        signals = list(decode_items(opened, chosen, request.scale, progress, parts))
        verified, remains = _check_digest(opened, chosen, signals, request), _remains(opened)
        signals = [refined(signal, request.scale) for signal in signals]
        signals = [cut_out(signal, parts[number]) if number in parts else signal for number, signal in zip(chosen, signals, strict=True)]
    outputs: list[Output] = []
    standard_output = None
    if not request.test:
        with clock("write"):
            outputs, standard_output = _write(request, signals, chosen)
    report = DecodeReport(
        command="decode",
        arguments=request.arguments,
        seed=None,
        threads=threads,
        settings={"item": request.item, "region": request.region, "scale": request.scale, "partial": request.partial},
        stream=stream_info(opened.stream, data, opened.base, limits=limits),
        verified=verified,
        remains=remains,
        stages=clock.seconds,
        warnings=(*_warnings(opened, request.scale), *(_missing(opened, remains) if remains is not None else ())),
        outputs=tuple(outputs),
    )
    return DecodeOutcome(report, standard_output)


def describe(data: bytes, name: str, max_memory: int | None = None) -> StreamInfo:
    """What a stream holds, without decoding it; its base network need not be at hand.

    Raises:
        InputError: it is no stream, or a damaged one.
    """
    limits = _limits(max_memory)
    stream = _unpacked(data, name, limits)
    check_kinds(stream)
    base = None
    if stream.header.base:
        try:
            base = open_stream(stream).base
        except InputError:
            base = None
    return stream_info(stream, data, base, limits=limits)


def unpacked_signals(data: bytes, base: Base | None) -> Iterator[Signal]:
    """All signals of a stream of one's own, decoded as any reader would, however large."""
    opened = open_stream(unpack(data, StreamLimits(sys.maxsize)), base)
    return decode_items(opened, range(len(opened.stream.items)))


def read_stream(request: DecodeRequest) -> bytes:
    """The bytes of the input.

    Raises:
        InputError: it cannot be read.
    """
    return request.standard_input or b"" if request.input == STDIN else read_bytes(request.input)


def _unpacked(data: bytes, name: str, limits: StreamLimits, *, partial: bool = False) -> Stream:
    """The stream in `data`; errors say that it is `name`."""
    try:
        return unpack(data, limits, partial=partial)
    except InputError as error:
        raise InputError(f"{shown(name)}: {error}") from None


def _limits(max_memory: int | None, max_macs: float | None = None) -> StreamLimits:
    usual = DEFAULT_STREAM_LIMITS
    return StreamLimits(usual.max_bytes if max_memory is None else max_memory, usual.max_macs if max_macs is None else max_macs)


def _chosen(opened: Opened, item: int | None) -> Sequence[int]:
    count = len(opened.stream.items)
    if item is None:
        return range(count)
    if not 0 <= item < count:
        raise UsageError(f"--item {item} is not in the stream: it has items 0 to {count - 1}")
    return [item]


def _patches(opened: Opened, chosen: Sequence[int]) -> int | None:
    return sum(opened.layouts[number].patches(opened.base) for number in chosen) if opened.base is not None else None


def _warnings(opened: Opened, scale: int) -> Iterator[str]:
    guard = opened.stream.header.guard
    if scale != 1 and guard != "none":
        promise = "without loss" if guard == "lossless" else f"within {opened.stream.header.tolerance:g}"
        yield f"the samples were encoded {promise}, which does not hold for those that --scale {scale} makes: they are the network's alone"


def _remains(opened: Opened) -> Remains | None:
    """What there is of a stream that was cut off; None of a whole one."""
    stream = opened.stream
    if stream.whole is None:
        return None
    return Remains(opened.known, len(stream.residuals) if stream.header.guard != "none" else None)


def _missing(opened: Opened, remains: Remains) -> Iterator[str]:
    """What the user should know about a stream that was cut off."""
    there = (
        "all of its latents are there" if remains.latents == 1 else f"{remains.latents:.1%} of its latents are there, and means stand for the others"
    )
    yield f"the stream was cut off: {there}; no checksum vouches for it"
    header, count = opened.stream.header, len(opened.stream.items)
    if remains.guarded is not None and remains.guarded < count:
        promise = "without loss" if header.guard == "lossless" else f"within {header.tolerance:g}"
        yield f"the samples were encoded {promise}, which holds for {remains.guarded} of {count} items: the corrections of the others were cut off"


def _check_digest(opened: Opened, chosen: Sequence[int], signals: Sequence[Signal], request: DecodeRequest) -> bool:
    """Whether the samples are those that were encoded, by the stream's own digest, where it covers what was decoded."""
    header = opened.stream.header
    digest, partial = header.digest, request.region is not None and header.guard == "none"
    if not digest or partial or request.scale != 1 or len(chosen) != len(opened.stream.items) or not _all_there(opened):
        return False
    if digest_of([signal.values for signal in signals]) != digest:
        raise InputError("damaged bitstream: the decoded samples are not those that were encoded")
    return True


def _all_there(opened: Opened) -> bool:
    """Whether a stream has everything that its samples are made of: all of it, or all but a part of its checksum."""
    guarded = len(opened.stream.items) if opened.stream.header.guard != "none" else 0
    return opened.stream.whole is None or (opened.known == 1 and len(opened.stream.residuals) == guarded)


def _write(request: DecodeRequest, signals: Sequence[Signal], chosen: Sequence[int]) -> tuple[list[Output], bytes | None]:
    """Write every signal; each file is complete or absent."""
    if request.output == STDOUT:
        if len(signals) != 1:
            raise UsageError(f"the stream holds {len(signals)} items, and the standard output takes one: choose with --item")
        format = request.format or modalities.default_output(signals[0])
        data = modalities.write(signals[0], format)
        return [Output(STDOUT, format, len(data))], data
    paths = _paths(request, signals, chosen)
    if request.output is not None and is_folder(request.output):
        _make_folder(Path(request.output))
    protect = [Path(request.input)] if request.input != STDIN else []
    for path in paths:
        check_target(path, force=request.force, protect=protect)
    outputs = []
    for path, signal in zip(paths, signals, strict=True):
        format = request.format or modalities.format_of_name(path.name) or modalities.default_output(signal)
        data = modalities.write(signal, format)
        write_bytes(path, data, force=request.force, protect=protect)
        outputs.append(Output(str(path), format, len(data)))
    return outputs, None


def _paths(request: DecodeRequest, signals: Sequence[Signal], chosen: Sequence[int]) -> list[Path]:
    """Where signals go: the output as named; under their own names into a folder; else beside the stream. No two go to one place."""
    suffixes = [f".{request.format or modalities.default_output(signal)}" for signal in signals]
    source = Path(request.input if request.input != STDIN else "decoded")
    name = source.name.removesuffix(SUFFIX)
    folder = request.output if request.output is not None and is_folder(request.output) else None
    if len(signals) == 1 and request.output is not None and folder is None:
        return [Path(request.output)]
    if request.output is not None and folder is None:
        raise UsageError(f"{request.output} would take the place of several files: name a folder (out/), or choose with --item")
    if len(signals) == 1 and folder is None:
        return [source.with_name(f"{name}.decoded{suffixes[0]}")]
    stems = _stems(signals, chosen)
    if folder is not None:
        return [Path(folder) / f"{stem}{suffix}" for stem, suffix in zip(stems, suffixes, strict=True)]
    return [source.with_name(f"{name}.{stem}.decoded{suffix}") for stem, suffix in zip(stems, suffixes, strict=True)]


def _stems(signals: Sequence[Signal], chosen: Sequence[int]) -> list[str]:
    """A name for each item: its file's, without the format; with its number where another has that name, or where there is none."""
    names = [signal.name.removesuffix(f".{signal.format}") if signal.name else "" for signal in signals]
    names = [PurePath(name).stem if name == signal.name else name for name, signal in zip(names, signals, strict=True)]
    # Some file systems do not tell A from a.
    counts = Counter(name.casefold() for name in names)
    numbers = map(ITEM_NAME.format, chosen)
    return [number if not name else f"{name}.{number}" if counts[name.casefold()] > 1 else name for name, number in zip(names, numbers, strict=True)]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {(error.strerror or str(error)).lower()}") from error
