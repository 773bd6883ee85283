"""What every command that works on a model is told beside its settings. Free of torch, so that the command line builds it at once.

ModelRequest ──► CompressRequest ──► PruneRequest, QuantizeRequest, ...
one model        with data, to files
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelRequest:
    """A model to read.

    Attributes:
        model: path, bytes (from a pipe), zoo name or `pkg.mod:factory`.
        arch: of a file that does not say.
        input_shape: of one sample or a batch, where the file does not say.
        trust: allow files that run code.
        max_bytes: that a file may have; None: the house's limit.
        threads: to compute with; 0: all; None: one for a model that is too small to share, else all.
        force: replace outputs that exist.
    """

    model: str | bytes
    _: KW_ONLY
    arch: str | None = None
    input_shape: tuple[int, ...] | None = None
    trust: bool = False
    max_bytes: int | None = None
    threads: int | None = None
    force: bool = False


@dataclass(frozen=True)
class CompressRequest(ModelRequest):
    """A model to make smaller, with data if there are any.

    Attributes:
        data: as `compresskit.data.load_data` reads it; None: data-free.
        mean, std: normalization of the inputs; None: the checkpoint's, or computed.
        label_column: of a table.
        device: to train on; None: the best there is.
        checkpoint: file to keep the training state in; None: none is kept.
        resume: go on from it.
        dry_run: measure, but write nothing.
        arguments: the command line, for the report.
    """

    _: KW_ONLY
    data: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    label_column: str | None = None
    device: str | None = None
    checkpoint: str | None = None
    resume: bool = False
    checkpoint_minutes: float = 5.0
    dry_run: bool = False
    arguments: tuple[str, ...] = ()

    def files_read(self, *others: str | None) -> tuple[Path, ...]:
        """The files that are read, and so never written: the model, the data, which may be several files, and `others`."""
        names = (self.model, *(self.data or "").split(","), *others)
        return tuple(Path(name) for name in names if isinstance(name, str) and name and Path(name).exists())


def dry_run_warning(request: CompressRequest, outputs: Sequence[str]) -> tuple[str, ...]:
    """What a dry run says of `outputs`, as warnings; nothing otherwise."""
    return (f"dry run: {', '.join(outputs) or 'nothing'} would be written",) if request.dry_run else ()
