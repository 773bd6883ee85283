"""What can be asked of `encode`, `decode` and the training of a base network."""

from __future__ import annotations

from dataclasses import dataclass, field

from compresskit.errors import UsageError

METHODS = ("auto", "coin++", "coin")
QUALITIES = range(1, 10)
LATENT_BITS = range(3, 13)
HALF_BITS = tuple(half / 2 for half in range(2 * LATENT_BITS[0], 2 * LATENT_BITS[-1] + 1))
"""Numbers of bits that predicted latents may have."""
EFFORTS = range(1, 10)


@dataclass(frozen=True)
class EncodeConfig:
    """How signals are encoded.

    Attributes:
        method: one of `METHODS`; auto takes COIN++ where there is a base network for the content, and COIN where there is none.
        quality: 1 (smallest) to 9 (nearest), where no target below is given.
        bits: of a latent (COIN++: 3 to 12) or a weight (COIN: up to 16); None: as the quality says.
        steps: of the fit, of COIN and of base networks whose shifts are modulated; None: the default. Other latents are solved for.
        effort: 1 (round to the nearest) to 9 (look longest for latents that are worth their bits), of COIN++.
        contexts: code latents of COIN++ in the context of others, where that takes less; streams are of version 2 of the format then.
        progressive: order latents of COIN++ so that any beginning of the stream decodes to all of it, coarsely (version 3; always in contexts).
        patch: edge of a patch, in samples; None: as the quality or the target says.
        psnr: the least PSNR [dB] to reach.
        bpp: the most bits a sample point, the whole file counted.
        kbps: likewise for sound, kilobits a second.
        max_error: no sample may be farther off, in the unit of the data.
        lossless: every sample is restored.
        base: file of the base network; None: the one that ships for this content.
        embed_base: store the base network in the stream.
        fallback: store deflated samples instead where that is smaller.
        verify: decode what was encoded, and compare.
        seed: of COIN's fit.

    Raises:
        UsageError: a value is out of range, or two contradict each other.
    """

    method: str = "auto"
    quality: int = 5
    bits: int | None = None
    steps: int | None = None
    effort: int = 5
    contexts: bool = True
    progressive: bool = False
    patch: int | None = None
    psnr: float | None = None
    bpp: float | None = None
    kbps: float | None = None
    max_error: float | None = None
    lossless: bool = False
    base: str | None = None
    embed_base: bool = False
    fallback: bool = False
    verify: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"unknown method {self.method!r}: choose from {', '.join(METHODS)}")
        if self.quality not in QUALITIES:
            raise UsageError(f"--quality {self.quality} is out of range: give 1 (smallest) to 9 (nearest)")
        if self.effort not in EFFORTS:
            raise UsageError(f"--effort {self.effort} is out of range: give 1 (quickest) to 9 (smallest)")
        if len([target for target in (self.psnr, self.bpp, self.kbps) if target is not None]) > 1:
            raise UsageError("--psnr, --bpp and --kbps exclude each other: give one")
        if self.lossless and self.max_error is not None:
            raise UsageError("--lossless leaves no error for --max-error: give one of them")
        for name, value in (("--psnr", self.psnr), ("--bpp", self.bpp), ("--kbps", self.kbps), ("--max-error", self.max_error)):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} {value:g} is out of range: give a positive number")
        for name, count in (("--steps", self.steps), ("--patch", self.patch)):
            if count is not None and count < 1:
                raise UsageError(f"{name} {count} is out of range: give 1 or more")
        if self.progressive and self.method == "coin":
            raise UsageError("--progressive orders latents, and COIN has none: leave it or --method coin out")
        if self.bits is not None and not 1 <= self.bits <= 16:
            raise UsageError(f"--bits {self.bits} is out of range: give 3 to 12 for COIN++, up to 16 for COIN")
        if self.bits is not None and self.method != "coin" and self.bits not in LATENT_BITS:
            raise UsageError(f"--bits {self.bits} is out of range for COIN++: give {LATENT_BITS[0]} to {LATENT_BITS[-1]}")


@dataclass(frozen=True)
class EncodeRequest:
    """`compresskit encode`, as a library call.

    Attributes:
        inputs: files, or "-" alone for `standard_input`; several make an archive.
        output: a file, or "-".
        config: how.
        format: of the inputs, where content does not tell it (the user's word for it: "nii").
        variable: which of a climate file's variables.
        preview: where to draw original, reconstruction and error, None for nowhere.
        jobs: files read, and networks of COIN fitted, at a time; COIN++ fits all patches of a file at once, with all threads.
        cluster: address of a Dask scheduler whose workers fit, refine and decode, a file at a time each; None: this machine does.
        max_bytes: that one input may unpack to; None: the house's limit.
        threads: 0 for all.
        force: replace outputs that exist.
        dry_run: measure, but write nothing.
        standard_input: what "-" stands for.
        arguments: the command line, for the report.
    """

    inputs: tuple[str, ...]
    output: str
    config: EncodeConfig = field(default_factory=EncodeConfig)
    format: str | None = None
    variable: str | None = None
    preview: str | None = None
    jobs: int = 1
    cluster: str | None = None
    max_bytes: int | None = None
    threads: int = 0
    force: bool = False
    dry_run: bool = False
    standard_input: bytes | None = None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecodeRequest:
    """`compresskit decode`, as a library call.

    Attributes:
        input: a stream, or "-" for `standard_input`.
        output: a file; a folder (it exists, or ends in a slash) for an archive's items; "-"; None: beside the input, `<stem>.decoded.<format>`.
        format: to write, where the suffix of `output` does not tell it; None: the original's.
        item: which one of an archive, from 0; None: all.
        region: part of the samples to decode, "axis=from:to" pairs with commas between them: lat and lon in degrees; x, y, z, t, and dimensions of
            a climate file by name, in samples.
        scale: how many times finer to sample each axis.
        base: file of the base network, where the stream's is neither shipped nor embedded.
        partial: take a stream that was cut off, and decode what is there.
        test: decode and check, but write nothing.
        max_memory: bytes that the stream may unpack to; None: the house's limit.
        max_macs: multiply-accumulates that decoding may take; None: likewise.
        threads: 0 for all.
        force: replace outputs that exist.
        standard_input: what "-" stands for.
        arguments: the command line, for the report.
    """

    input: str
    output: str | None = None
    format: str | None = None
    item: int | None = None
    region: str | None = None
    scale: int = 1
    base: str | None = None
    partial: bool = False
    test: bool = False
    max_memory: int | None = None
    max_macs: float | None = None
    threads: int = 0
    force: bool = False
    standard_input: bytes | None = None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainBaseRequest:
    """`compresskit encode --train-base`, as a library call.

    Attributes:
        inputs: files, and folders that are searched for files of the modality.
        modality: "image", "gray", "audio", "volume" or "globe".
        output: the base network's file.
        steps: of the outer loop; None: the modality's default.
        variable: which of a climate file's variables.
        latents: length of a latent vector; None: the modality's default.
        width, depth: of the network; None: the modality's defaults.
        seed: of everything drawn.
        checkpoint: where training keeps its state, None for nowhere.
        resume: go on from it.
        max_bytes, threads, force, arguments: as in `EncodeRequest`.
    """

    inputs: tuple[str, ...]
    modality: str
    output: str
    variable: str | None = None
    steps: int | None = None
    latents: int | None = None
    width: int | None = None
    depth: int | None = None
    seed: int = 0
    checkpoint: str | None = None
    resume: bool = False
    max_bytes: int | None = None
    threads: int = 0
    force: bool = False
    arguments: tuple[str, ...] = ()
