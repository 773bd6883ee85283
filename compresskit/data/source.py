"""What a kind of data source is: a test whether it recognises a request, and a reader.

A new kind is one new file that registers itself in `SOURCES` and is imported in `load.py`. No two kinds match one request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compresskit.data.limits import Budget
from compresskit.progress import Progress
from compresskit.registry import Registry
from compresskit.requests import parse_location


@dataclass(frozen=True)
class Pair:
    """Samples (N, ...) and labels (N, ...) as they were stored, neither checked nor converted."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Raw:
    """What a source holds.

    Attributes:
        train: the training samples, or all samples where the source has no splits.
        validation, test: where the source has them.
        prepared: whether floating values are what the model takes, in need of no normalization.
    """

    train: Pair
    validation: Pair | None = None
    test: Pair | None = None
    prepared: bool = False


@dataclass(frozen=True)
class Request:
    """A parsed `--data`.

    Attributes:
        text: as given.
        paths: the files or the folder that it names; for code, none or the `.py` file.
        names: what stands behind a colon: keys of an archive, or the function to call.
        input_shape: of one sample, as the model takes it.
        budget: what may still be read.
        label_column: of a table.
        progress: told about slow steps.
        vocabulary: how many token ids the model knows; None: it takes numbers.
    """

    text: str
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    input_shape: tuple[int, ...]
    budget: Budget
    label_column: str | None
    progress: Progress
    vocabulary: int | None = None

    @property
    def file(self) -> Path | None:
        """The file, where the request is for exactly one."""
        return self.paths[0] if len(self.paths) == 1 and self.paths[0].is_file() else None

    @property
    def folder(self) -> Path | None:
        """The folder, where the request is for one."""
        return self.paths[0] if len(self.paths) == 1 and self.paths[0].is_dir() else None


@dataclass(frozen=True)
class Source:
    """A kind of source. `matches` looks at content, not at suffixes; `read` raises InputError."""

    matches: Callable[[Request], bool]
    read: Callable[[Request], Raw]


SOURCES: Registry[Source] = Registry("data source")


def absolute_location(text: str) -> str:
    """`--data` as it is said from any folder; a function of a module stays as it is.

    Raises:
        InputError: it names files that are not there.
    """
    paths, names = parse_location(text)
    if not paths:
        return text
    place = ",".join(str(path.absolute()) for path in paths)
    return f"{place}:{','.join(names)}" if names else place
