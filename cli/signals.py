"""What `encode` and `decode` report, as a person reads it: what is in the stream, how near it comes, what it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table

from compresskit.codec.reports import DecodeReport, Distortion, EncodeReport, ItemReport, StreamInfo, TrainBaseReport

from .console import one_line
from .tables import plain_table, plural, size, wrote

ITEMS_SHOWN = 10
CURVE_SHOWN = 10
METHODS = {"coin++": "COIN++", "coin": "COIN", "plain": "deflated samples, no network"}
DTYPES = {"u": "uint", "i": "int", "f": "float", "b": "bool"}
EXACT = "exact"


def encode_tables(report: EncodeReport, *, verbose: bool) -> Iterator[RenderableType]:
    """What was encoded, and how well; all items only where `verbose`."""
    stream = report.stream
    yield from _items(stream.items, verbose)
    yield ""
    yield _method(stream)
    sizes = f"{size(report.input_bytes)} → {size(stream.bytes)}, ratio {report.ratio:.4g}"
    yield f"{sizes}; the samples alone, deflated: {size(report.deflate_bytes)}"
    yield _rate(stream)
    if report.verified:
        yield "verified: decoded again, and compared"
    yield from wrote(report.outputs)
    yield _effort(report.threads, report.stages)


def decode_tables(report: DecodeReport, *, verbose: bool) -> Iterator[RenderableType]:
    """What was decoded; all items only where `verbose`."""
    yield from _items(report.stream.items, verbose)
    yield ""
    yield _method(report.stream)
    yield f"checked: {_checked(report)}"
    yield from wrote(report.outputs)
    yield _effort(report.threads, report.stages)


def _checked(report: DecodeReport) -> str:
    """What vouches for the samples."""
    if report.verified:
        return "the samples have the SHA-256 that encode noted"
    if report.remains is not None:
        return f"nothing, as the stream was cut off; it has {report.remains.latents:.1%} of its latents"
    return "the checksums of the stream"


def info_tables(stream: StreamInfo, *, verbose: bool) -> Iterator[RenderableType]:
    """What a stream holds and where its bytes go; all items only where `verbose`."""
    yield from _items(stream.items, verbose)
    yield ""
    yield _sections(stream)
    yield ""
    yield _method(stream)
    yield _rate(stream)


def training_tables(report: TrainBaseReport, *, verbose: bool) -> Iterator[RenderableType]:
    """How a base network was learned: some points of the curve, or all where `verbose`."""
    table = plain_table("step", "PSNR of the training patches")
    every = 1 if verbose else max(1, -(-len(report.curve) // CURVE_SHOWN))
    # Counted from the end, which is what matters most.
    for step, psnr in report.curve[::-1][::every][::-1]:
        table.add_row(f"{int(step):,}", f"{psnr:.2f} dB")
    yield table
    yield ""
    yield f"on new patches: {report.psnr:.2f} dB"
    yield from wrote(report.outputs)
    yield _effort(report.threads, report.stages)


@dataclass(frozen=True)
class _Figure:
    """A column of figures: its heading, and one distortion's entry ("": none)."""

    heading: str
    entry: Callable[[Distortion], str]


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} dB"


_FIGURES = (
    _Figure("PSNR", lambda distortion: _decibels(distortion.psnr) or EXACT),
    _Figure("SNR", lambda distortion: _decibels(distortion.snr)),
    _Figure("area-weighted RMSE", lambda distortion: "" if distortion.weighted_rmse is None else f"{distortion.weighted_rmse:.4g}"),
    _Figure("max error", lambda distortion: f"{distortion.max_error:.4g}"),
)


def _items(items: Sequence[ItemReport], verbose: bool) -> Iterator[RenderableType]:
    """A row an item: its number and name where it has them, its kind, the figures that at least one has; and a summary of several."""
    distortions = [item.distortion for item in items if item.distortion is not None]
    figures = [figure for figure in _FIGURES if any(map(figure.entry, distortions))]
    labels = [*(["item"] if len(items) > 1 else []), *(["name"] if any(item.name for item in items) else [])]
    table = plain_table(*labels, "kind", "shape", *(figure.heading for figure in figures), left=len(labels) + 1)
    for number, item in enumerate(items if verbose else items[:ITEMS_SHOWN]):
        known = {"item": f"{number}", "name": one_line(item.name)}
        entries = [figure.entry(item.distortion) if item.distortion is not None else "" for figure in figures]
        table.add_row(*(known[label] for label in labels), f"{item.modality} {item.format} {_dtype(item.dtype)}", _shape(item.shape), *entries)
    yield table
    if len(items) > table.row_count:
        yield f"… {len(items) - table.row_count} more (-v)"
    if len(items) > 1:
        yield _overall(len(items), distortions)


def _overall(count: int, distortions: Sequence[Distortion]) -> str:
    """One line on all items: 50 items, PSNR 31.20 dB on average and 27.10 dB at least, 3 exact."""
    psnrs = [distortion.psnr for distortion in distortions if distortion.psnr is not None]
    parts = [plural(count, "item")]
    if psnrs:
        parts.append(f"PSNR {sum(psnrs) / len(psnrs):.2f} dB on average and {min(psnrs):.2f} dB at least")
    if len(psnrs) < len(distortions):
        parts.append(f"{len(distortions) - len(psnrs)} {EXACT}")
    return ", ".join(parts)


def _shape(shape: Sequence[int]) -> str:
    """(frames, *spatial, channels) without what there is one of: 512 x 768 x 3."""
    frames, *spatial, channels = shape
    return " x ".join(map(str, [*([frames] if frames > 1 else []), *spatial, *([channels] if channels > 1 else [])]))


def _dtype(name: str) -> str:
    """NumPy's "<u2" in words: uint16."""
    return DTYPES[name[1]] + (f"{8 * int(name[2:])}" if name[1] != "b" else "")


def _method(stream: StreamInfo) -> str:
    """How a stream codes its samples: COIN++ with base network image (363 kB), patches of edge 16, 5 bits a latent."""
    parts = [METHODS[stream.method]]
    if stream.base is not None:
        parts[0] += f" with base network {one_line(stream.base)}" + (f" ({size(stream.base_bytes)})" if stream.base_bytes else "")
    if stream.method != "plain":
        parts.append(f"patches of {_edges(stream.patch)}" if stream.patch else "whole signals")
        parts.append(f"{stream.bits:g} {'bit' if stream.bits == 1 else 'bits'} a {'latent' if stream.method == 'coin++' else 'weight'}")
    if stream.progressive:
        parts.append("coarse latents first")
    if stream.guard == "lossless":
        parts.append("every sample restored")
    elif stream.guard == "max-error":
        parts.append(f"every sample to within {stream.tolerance:g}")
    return ", ".join(parts)


def _edges(patch: Sequence[int]) -> str:
    """One edge stands for all."""
    return f"edge {patch[0]}" if len(set(patch)) == 1 else " x ".join(map(str, patch))


def _rate(stream: StreamInfo) -> str:
    """Bits a sample point with and without the base network, where there is one; of sound the bits a second too."""
    spoken = [f"{stream.kbps:.4g} kbit/s"] if stream.kbps is not None else []
    rate = f"{stream.bpp:.4g} bits a point"
    if embedded := stream.sections.get("base"):
        rate += f" ({8 * (stream.bytes - embedded) / stream.points:.4g} without the base network in it)"
    elif stream.bpp_with_base != stream.bpp:
        rate += f" ({stream.bpp_with_base:.4g} with the base network)"
    return "rate: " + ", ".join([*spoken, rate, plural(stream.points, "point")])


def _sections(stream: StreamInfo) -> Table:
    table = plain_table("section", "bytes", "share")
    for name, count in stream.sections.items():
        table.add_row(name, f"{count:,}", f"{count / stream.bytes:.1%}")
    table.add_row("all", f"{stream.bytes:,}", f"{1:.1%}")
    return table


def _effort(threads: int, stages: dict[str, float]) -> str:
    return f"{plural(threads, 'thread')}, {sum(stages.values()):.1f} s"
