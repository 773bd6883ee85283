"""What a kind of data is: formats that it recognises by their content, a reader and a writer.

A new kind is one new file that registers an instance in `MODALITIES` and is imported in `__init__.py`. It imports the library
that knows the format inside `read` and `write`, so that a picture is read without the libraries for sound, scans and climate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.signal import Signal
from compresskit.data.limits import Budget
from compresskit.errors import UsageError
from compresskit.registry import Registry

_SPATIAL: Mapping[int, tuple[str, ...]] = {1: ("x",), 2: ("y", "x"), 3: ("x", "y", "z")}


class Modality(Protocol):
    """One kind of data. Stateless: everything that `write` needs is in the signal.

    Attributes:
        formats: the names of its formats, each the suffix of its files without the first dot: "png", "nii.gz". No two modalities share one.
    """

    formats: tuple[str, ...]

    def sniff(self, data: bytes, name: str) -> str | None:
        """The format of `data` if it is one of this modality's, else None.

        Decided by content; `name` settles what the content leaves open. No two modalities recognise one file. Raises nothing.
        """
        ...

    def read(self, data: bytes, format: str, *, name: str, variable: str | None, budget: Budget) -> Signal:
        """Read a file.

        Args:
            data: the whole file.
            format: one of `formats`, sniffed or named by the user.
            name: for messages and the signal.
            variable: which of the file's variables, where a file can have several.
            budget: what may be allocated; asked before each array.

        Raises:
            InputError: damaged, over a limit, or of a kind that cannot be restored.
            UsageError: `variable` is not in the file, or is ambiguous.
        """
        ...

    def write(self, signal: Signal, format: str) -> bytes:
        """The file whose samples are `signal.values`, as `read` found it where `format` is the signal's own.

        Raises:
            InputError: `signal.metadata` is damaged.
            UsageError: `format` cannot hold these samples.
        """
        ...

    def default_output(self, format: str) -> str:
        """The format to restore a file of `format` in: the same, unless that would change the samples again."""
        return format

    def axes(self, metadata: bytes, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], ...]:
        """Latitudes and longitudes [degrees] of a signal of `shape`, from its metadata alone; () where it is not on the globe."""
        return ()

    def rate(self, metadata: bytes) -> float | None:
        """Sample points a second, of a signal in time; None for everything else."""
        return None

    def dimensions(self, spatial: int) -> tuple[str, ...]:
        """What users call the frames and the `spatial` axes of a signal."""
        return ("t", *_SPATIAL[spatial])

    def leading(self, metadata: bytes, shape: tuple[int, ...]) -> Mapping[str, int]:
        """The dimensions that the frames of a signal go along, the last fastest: the file's names for them, and their lengths. {}: it names none."""
        return {}

    def refined_axes(self, axes: tuple[NDArray[np.float64], ...], scale: int) -> tuple[NDArray[np.float64], ...]:
        """Latitudes and longitudes of a grid `scale` times finer than that of `axes`."""
        return axes

    def cropped(self, signal: Signal, parts: Sequence[NDArray[np.int64]]) -> Signal:
        """The samples at the frames `parts[0]` and at the positions `parts[1:]` along each spatial axis, with metadata for just these.

        Raises:
            InputError: `signal.metadata` is damaged.
            UsageError: a file of this kind cannot hold such a part.
        """
        raise UsageError(f"no region of {signal.modality} data can be written: leave --region out")

    def refined(self, signal: Signal, scale: int) -> Signal:
        """A signal whose samples are `scale` times as many along each spatial axis as its metadata says, with metadata for these.

        Raises:
            InputError: `signal.metadata` is damaged.
            UsageError: a file of this kind cannot hold them.
        """
        raise UsageError(f"no finer grid of {signal.modality} data can be written: leave --scale out")


MODALITIES: Registry[Modality] = Registry("modality")
