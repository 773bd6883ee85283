"""`compresskit encode`: from the command line to `EncodeRequest`, and from the outcome to what is printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Literal

import typer

from compresskit.codec.config import EncodeConfig, EncodeRequest
from compresskit.errors import UsageError
from compresskit.writers import STDOUT

from . import options as shared
from .console import Console
from .options import DATA, METHOD, OUTPUT, RUN, TARGET, option, refuse_beside, refuse_without, takes
from .results import beside, check_outputs, chosen_output, deliver, read_stdin
from .train_base import TRAINING_ONLY, TrainBaseOptions, train_base

SUFFIX = ".coinpp"
PACKED = ".gz"
# Said again here as types; a test holds the two together.
Method = Literal["auto", "coin++", "coin"]
ENCODING_ONLY = frozenset(
    {
        *("quality", "psnr", "bpp", "kbps", "max_error", "lossless", "fallback"),
        *("method", "bits", "effort", "patch", "base", "embed_base", "progressive"),
        *("format", "stdout", "verify", "preview", "jobs", "cluster", "dry_run"),
    }
)
"""Options that have no say in --train-base."""


@dataclass(frozen=True, kw_only=True)
class EncodeOptions(TrainBaseOptions):
    """All that can be said to `compresskit encode`."""

    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Pictures, sound, scans, climate grids or arrays (.npy); several make an archive; -: stdin."),
    ]
    quality: Annotated[int, option(TARGET, "1 (smallest) to 9 (nearest).", "--quality", metavar="Q")] = EncodeConfig.quality
    psnr: Annotated[float | None, option(TARGET, "Reach this PSNR.", "--psnr", metavar="DB")] = None
    bpp: Annotated[float | None, option(TARGET, "Use at most this many bits a pixel, voxel or sample.", "--bpp", metavar="BITS")] = None
    kbps: Annotated[float | None, option(TARGET, "Use at most this many kilobits a second of sound.", "--kbps", metavar="RATE")] = None
    max_error: Annotated[
        float | None, option(TARGET, "Restore every sample to within this, in the unit of the data.", "--max-error", metavar="E")
    ] = None
    lossless: Annotated[bool, option(TARGET, "Restore every sample exactly.", "--lossless")] = False
    fallback: Annotated[bool, option(TARGET, "Store deflated samples instead where that is smaller.", "--fallback")] = False
    format: Annotated[str | None, option(DATA, "What the files are (nii, wav), where their content does not tell.", "--format", metavar="F")] = None
    output: Annotated[
        str | None, option(OUTPUT, "Write here; -: standard output; else to FILE.coinpp beside the input.", "-o", "--output", metavar="FILE")
    ] = None
    stdout: Annotated[bool, option(OUTPUT, "Write to the standard output.", "-c", "--stdout")] = False
    verify: Annotated[bool, option(OUTPUT, "Decode again and compare; a difference is exit 5, and nothing is written.", "--verify")] = False
    preview: Annotated[str | None, option(OUTPUT, "Draw original, reconstruction and error (.png, .svg, .pdf).", "--preview", metavar="FILE")] = None
    method: Annotated[Method, option(METHOD, "auto: coin++ where there is a base network for the content.", "--method", metavar="M")] = "auto"
    bits: Annotated[int | None, option(METHOD, "Bits of a latent (coin++: 3 to 12) or a weight (coin: up to 16).", "--bits", metavar="N")] = None
    effort: Annotated[int, option(METHOD, "1 (quickest) to 9 (smallest) search for the bits that pay, of COIN++.", "--effort", metavar="N")] = (
        EncodeConfig.effort
    )
    patch: Annotated[int | None, option(METHOD, "Edge of a patch, in samples.", "--patch", metavar="N")] = None
    base: Annotated[str | None, option(METHOD, "Base network to use in place of the one that ships.", "--base", metavar="FILE")] = None
    embed_base: Annotated[bool, option(METHOD, "Store the base network in the output, so that it decodes anywhere.", "--embed-base")] = False
    progressive: Annotated[
        bool, option(METHOD, "Coarse latents first, so that decode --partial makes all of it from any beginning of the output.", "--progressive")
    ] = False
    jobs: Annotated[
        int, option(RUN, "Files read, and networks of COIN fitted, at a time; COIN++ fits many patches at once.", "-j", "--jobs", metavar="N", min=1)
    ] = EncodeRequest.jobs
    cluster: Annotated[str | None, shared.cluster(RUN)] = EncodeRequest.cluster
    dry_run: shared.DryRun = False


@takes(EncodeOptions)
def encode(console: Console, options: EncodeOptions) -> None:
    """Encode pictures, sound, scans and climate grids as neural networks' latents, to a fraction of their size.

    Examples:
      compresskit encode scan.nii
      compresskit encode photo.png --quality 6 -o photo.coinpp --preview photo.pdf
      compresskit encode speech.wav --kbps 20 --verify
      compresskit encode t2m.nc --var t2m --max-error 0.5
      compresskit encode scan.nii.gz --lossless
      compresskit encode imgs/a.png imgs/b.png -o set.coinpp
      compresskit encode --train-base scans/ --modality volume -o brain.base.safetensors
      cat scan.nii | compresskit encode - --format nii -o - > scan.coinpp
    """
    if options.train_base:
        refuse_beside(console, "--train-base", ENCODING_ONLY)
        train_base(console, options, tuple(options.files), options.output)
        return
    refuse_without(console, "--train-base", TRAINING_ONLY)
    config = _config(options)
    request = _request(console, options, config, _output(options))
    # Only now, so that --help and wrong options are answered at once.
    from compresskit.codec.pipeline import encode as run

    from .signals import encode_tables

    with console.progress() as progress:
        outcome = run(request, progress)
    report, write = outcome.report, not options.dry_run
    warnings = report.warnings if write else (f"dry run: {request.output} would be written", *report.warnings)
    tables = encode_tables(report, verbose=options.verbose > 0)
    deliver(console, options, report, tables, outcome.standard_output, inputs=_read(options), warnings=warnings, write=write)
    if outcome.failure is not None:
        raise outcome.failure


def _config(options: EncodeOptions) -> EncodeConfig:
    return EncodeConfig(
        method=options.method,
        quality=options.quality,
        bits=options.bits,
        steps=options.steps,
        effort=options.effort,
        patch=options.patch,
        psnr=options.psnr,
        bpp=options.bpp,
        kbps=options.kbps,
        max_error=options.max_error,
        lossless=options.lossless,
        base=options.base,
        embed_base=options.embed_base,
        progressive=options.progressive,
        fallback=options.fallback,
        verify=options.verify,
        seed=options.seed,
    )


def _request(console: Console, options: EncodeOptions, config: EncodeConfig, output: str) -> EncodeRequest:
    check_outputs(console, options, (output,), what="the bitstream", inputs=_read(options), drawings={"--preview": options.preview})
    max_bytes = shared.byte_count(options.max_bytes, "--max-bytes")
    return EncodeRequest(
        inputs=tuple(options.files),
        output=output,
        config=config,
        format=options.format,
        variable=options.var,
        preview=options.preview,
        jobs=options.jobs,
        cluster=options.cluster,
        max_bytes=max_bytes,
        threads=options.threads or 0,
        force=options.force,
        dry_run=options.dry_run,
        standard_input=read_stdin(console, "file", max_bytes) if STDOUT in options.files else None,
        arguments=console.arguments,
    )


def _output(options: EncodeOptions) -> str:
    """Where the bitstream goes: as asked, else `<stem>.coinpp` beside the one input, else the standard output for a piped input.

    Raises:
        UsageError: that is said twice, or not at all for several inputs.
    """
    if STDOUT in options.files and len(options.files) > 1:
        raise UsageError("the standard input (-) is encoded alone: name files, or pipe in one")
    output = chosen_output(options.output, stdout=options.stdout)
    if output is not None:
        return output
    if len(options.files) > 1:
        raise UsageError(f"{len(options.files)} inputs make one archive: name it with -o")
    (source,) = options.files
    name = PurePath(source).name
    if name.lower().endswith(PACKED):
        name = name[: -len(PACKED)]
    return STDOUT if source == STDOUT else beside(source, PurePath(name).stem + SUFFIX)


def _read(options: EncodeOptions) -> tuple[str, ...]:
    """The files that are read."""
    return (*options.files, *((options.base,) if options.base else ()))
