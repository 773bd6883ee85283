"""The two visible kinds of `Progress`: a bar for terminals, and occasional lines for logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from compresskit.progress import Progress as ProgressProtocol

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def drawn_bar(console: RichConsole, *, verbose: bool) -> Iterator[ProgressProtocol]:
    """Draw a bar for the current stage, with its ETA and figures, and wipe it at the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress, verbose)


class _Bar:
    def __init__(self, progress: Progress, verbose: bool) -> None:
        self._progress = progress
        self._verbose = verbose
        self._task: TaskID | None = None

    def stage(self, name: str, total: int | None = None) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=total, figures="")

    def advance(self, steps: int = 1, **figures: float) -> None:
        if self._task is None:
            return
        # Steps without figures leave the last ones on show.
        if figures:
            self._progress.update(self._task, figures=_spelled(figures))
        self._progress.advance(self._task, steps)

    def note(self, message: str) -> None:
        if self._verbose:
            self._progress.console.print(f"compresskit: {message}")


class LogLines:
    """A line when a stage begins, and at most one every ten seconds while it goes on."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._name = ""
        self._total: int | None = None
        self._done = 0
        self._last = clock()

    def stage(self, name: str, total: int | None = None) -> None:
        self._name, self._total, self._done, self._last = name, total, 0, self._clock()
        self._write(name)

    def advance(self, steps: int = 1, **figures: float) -> None:
        self._done += steps
        if self._clock() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = self._clock()
            of_total = f"/{self._total}" if self._total is not None else ""
            self._write(f"{self._name} {self._done}{of_total} {_spelled(figures)}".rstrip())

    def note(self, message: str) -> None:
        self._write(message)


def _spelled(figures: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in figures.items())
