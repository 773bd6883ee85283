"""How the library says what it is doing: a protocol that callers may implement, silent by default."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of one long operation. The library never prints; `cli` draws this with rich."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of `total` steps (None: unknown). It ends the stage before it."""

    def advance(self, steps: int = 1, **figures: float) -> None:
        """Report `steps` more steps done, with figures worth showing (loss=0.31, accuracy=0.92)."""

    def note(self, message: str) -> None:
        """Report something worth a log line."""


class Silent:
    """The default: says nothing."""

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, steps: int = 1, **figures: float) -> None: ...

    def note(self, message: str) -> None: ...


SILENT: Progress = Silent()
