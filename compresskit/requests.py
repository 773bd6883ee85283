"""What every command that works on a model is told beside its settings. Free of torch, so that the command line builds it at once.

ModelRequest ──► CompressRequest ──► PruneRequest, QuantizeRequest, ...
one model        with data, to files
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from compresskit.errors import InputError


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
        """The files and folders that are read, and so never written: those of the model, of what builds it, of the data, and of `others`."""
        return tuple(path for text in (self.model, self.data, self.arch, *others) if isinstance(text, str) for path in paths_of(text))


def dry_run_warning(request: CompressRequest, outputs: Sequence[str]) -> tuple[str, ...]:
    """What a dry run says of `outputs`, as warnings; nothing otherwise."""
    return (f"dry run: {', '.join(outputs) or 'nothing'} would be written",) if request.dry_run else ()


def parse_location(text: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Take `--data` apart into paths and the names behind a colon.

    >>> parse_location("package.module:function")
    ((), ('function',))

    Raises:
        InputError: it names files that are not there.
    """
    places, names = _take_apart(text)
    for place in places:
        if not _exists(place):
            raise InputError(f"{place or '--data'}: no such file or folder")
    return tuple(map(Path, places)), names


def paths_of(data: str) -> tuple[Path, ...]:
    """The files and folders that `data` names, as far as they are there; none for a function of a module.

    What is said of a model, `file.py:factory` included, is understood too.
    """
    places, _ = _take_apart(data)
    return tuple(Path(place) for place in places if _exists(place))


def _take_apart(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The places that `text` names, there or not, and the names behind a colon."""
    if _exists(text):
        return (text,), ()
    place, colon, names = text.rpartition(":")
    if colon and (_exists(place) or place.endswith(".py")):
        return (place,), tuple(names.split(","))
    if names.isidentifier() and all(part.isidentifier() for part in place.split(".")):
        return (), (names,)
    return tuple(text.split(",")), ()


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False
