"""`compresskit decode`: from the command line to `DecodeRequest`, and from the outcome to what is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from compresskit.codec.config import DecodeRequest
from compresskit.codec.reports import DecodeReport
from compresskit.writers import STDOUT, is_folder

from . import options as shared
from .console import Console
from .options import DATA, METHOD, OUTPUT, RUN, ReportOptions, RunOptions, option, refuse_beside, takes
from .results import check_outputs, chosen_output, deliver, read_stdin

DECODING_ONLY = frozenset({"output", "stdout", "format", "item", "region", "scale", "partial", "base", "test", "max_macs"})
"""Options that have no say in --info."""


@dataclass(frozen=True, kw_only=True)
class DecodeOptions(RunOptions, ReportOptions):
    """All that can be said to `compresskit decode`."""

    file: Annotated[str, typer.Argument(metavar="FILE", help="What encode wrote; -: standard input.")]
    item: Annotated[int | None, option(DATA, "Decode only this one of an archive, counted from 0.", "--item", metavar="N", min=0)] = None
    region: Annotated[
        str | None,
        option(
            DATA, "Decode a part: axis=from:to,.. of lat, lon in degrees, of x, y, z, t and dimensions by name in samples.", "--region", metavar="R"
        ),
    ] = None
    scale: Annotated[int, option(DATA, "How many times finer to sample each axis.", "--scale", metavar="N", min=1)] = DecodeRequest.scale
    partial: Annotated[bool, option(DATA, "Take a file that was cut off, and decode as much as is there.", "--partial")] = False
    output: Annotated[
        str | None,
        option(
            OUTPUT,
            "Write here; a folder/ for an archive; -: standard output; else to FILE.decoded.FORMAT beside the input.",
            "-o",
            "--output",
            metavar="FILE",
        ),
    ] = None
    stdout: Annotated[bool, option(OUTPUT, "Write to the standard output.", "-c", "--stdout")] = False
    format: Annotated[
        str | None, option(OUTPUT, "What to write (png, wav, ...); else as the suffix of -o says, else the original's.", "--format", metavar="F")
    ] = None
    test: Annotated[bool, option(OUTPUT, "Decode and check everything, write nothing.", "-t", "--test", "--dry-run")] = False
    info: Annotated[bool, option(OUTPUT, "Say what is in the file, without decoding it.", "--info")] = False
    base: Annotated[
        str | None, option(METHOD, "The base network that the file names, where it neither ships nor is embedded.", "--base", metavar="FILE")
    ] = None
    max_memory: Annotated[str | None, option(RUN, "Refuse a file that unpacks to more than this: 512MB, 8GB.", "--max-memory", metavar="N")] = None
    max_macs: Annotated[
        float | None,
        option(RUN, "Refuse a file that takes more multiply-accumulates than this, by default about a minute's.", "--max-macs", metavar="N", min=0),
    ] = None


@takes(DecodeOptions)
def decode(console: Console, options: DecodeOptions) -> None:
    """Decode what encode wrote: the file as it was, a part of it, or a finer one.

    Examples:
      compresskit decode scan.coinpp
      compresskit decode photo.coinpp -o photo.png
      compresskit decode set.coinpp -o out/ --item 3
      compresskit decode t2m.coinpp --region lat=30:60,lon=-10:40
      compresskit decode photo.coinpp --scale 2
      compresskit decode --partial half-loaded.coinpp -o photo.png
      compresskit decode --info scan.coinpp
      cat scan.coinpp | compresskit decode - -o - --format nii > scan.nii
    """
    if options.info:
        refuse_beside(console, "--info", DECODING_ONLY)
        _info(console, options)
        return
    request = _request(console, options)
    # Only now, so that --help and wrong options are answered at once.
    from compresskit.codec.decoding import decode as run

    from .signals import decode_tables

    with console.progress() as progress:
        outcome = run(request, progress)
    report = outcome.report
    tables = decode_tables(report, verbose=options.verbose > 0)
    deliver(console, options, report, tables, outcome.standard_output, inputs=_read(options), warnings=report.warnings, write=not options.test)
    if outcome.failure is not None:
        raise outcome.failure


def _info(console: Console, options: DecodeOptions) -> None:
    """Show what a bitstream holds."""
    request = _request(console, options)
    from compresskit.codec.decoding import describe, read_stream

    from .signals import info_tables

    stream = describe(read_stream(request), request.input, request.max_memory)
    report = DecodeReport(
        command="decode", arguments=console.arguments, seed=None, threads=options.threads or 0, settings={}, stream=stream, verified=False
    )
    deliver(console, options, report, info_tables(stream, verbose=options.verbose > 0), inputs=(options.file,))


def _request(console: Console, options: DecodeOptions) -> DecodeRequest:
    output = _output(options)
    # Where a folder or a default name is asked for, only the library knows the files.
    checked = () if options.test or options.info or output is None or is_folder(output) else (output,)
    check_outputs(console, options, checked, what="the decoded file", inputs=_read(options), drawings={})
    max_memory = shared.byte_count(options.max_memory, "--max-memory")
    return DecodeRequest(
        input=options.file,
        output=output,
        format=options.format,
        item=options.item,
        region=options.region,
        scale=options.scale,
        base=options.base,
        partial=options.partial,
        test=options.test,
        max_memory=max_memory,
        max_macs=options.max_macs,
        threads=options.threads or 0,
        force=options.force,
        standard_input=read_stdin(console, "bitstream", max_memory, "--max-memory") if options.file == STDOUT else None,
        arguments=console.arguments,
    )


def _output(options: DecodeOptions) -> str | None:
    """Where the decoded file goes: as asked, else the standard output for a piped input, else None: beside the input."""
    return chosen_output(options.output, stdout=options.stdout) or (STDOUT if options.file == STDOUT else None)


def _read(options: DecodeOptions) -> tuple[str, ...]:
    """The files that are read."""
    return (options.file, *((options.base,) if options.base else ()))
