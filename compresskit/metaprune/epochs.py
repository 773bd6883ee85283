"""The metanetworks of all epochs of meta-training, in a folder beside the one that is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compresskit.data.files import read_bytes
from compresskit.errors import OutputError
from compresskit.metaprune.network import Metanetwork, load, save
from compresskit.writers import check_target, write_bytes


@dataclass(frozen=True)
class Epochs:
    """A folder of them, `epoch-001.safetensors` and so on.

    Attributes:
        force: whether those of an earlier training may be replaced.
    """

    folder: Path
    force: bool = False

    @classmethod
    def beside(cls, output: Path, *, force: bool) -> Epochs:
        """The folder `meta.epochs` beside `meta.safetensors`."""
        return cls(output.with_suffix(".epochs"), force)

    def path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:03}.safetensors"

    def check(self, epochs: int) -> None:
        """Find out, before any work is done, whether what so many epochs leave can be written.

        Raises:
            UsageError: one of them is there, and `force` is off.
            OutputError: one cannot be written.
        """
        for path in map(self.path, range(1, epochs + 1)):
            if path.exists():
                check_target(path, force=self.force)

    def save(self, epoch: int, metanetwork: Metanetwork) -> None:
        """Keep what `metanetwork` is after `epoch`.

        Raises:
            UsageError: there is one, and `force` is off.
            OutputError: it cannot be written.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.folder}: {error.strerror}") from error
        write_bytes(self.path(epoch), save(metanetwork), force=self.force)

    def read(self, epoch: int) -> Metanetwork:
        """The metanetwork of `epoch`.

        Raises:
            InputError: it is missing or damaged.
        """
        return load(read_bytes(self.path(epoch)), str(self.path(epoch)))
