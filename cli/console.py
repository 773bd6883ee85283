"""Console: the streams, the terminal and how much to say on it, in one object that tests replace."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, TextIO

from compresskit.errors import OutputError
from compresskit.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType


@dataclass
class Console:
    """Where a command's words go. The result goes to `stdout`, everything else to `stderr`.

    Attributes:
        arguments: the command line without the program's name.
        given: the parameters that it gives a value to; others have theirs from the environment or a file, or none.
        verbosity: -2: nothing, -1: errors only, 0: warnings and results, 1: the steps too.
        bars: whether a progress bar may be drawn where `stderr` is a terminal.
        color: whether colour may be used where the stream is a terminal.
        traceback: whether an error shows where in the code it came from.
    """

    # A stream is None in a process that was started with it closed.
    stdin: BinaryIO = field(default_factory=lambda: sys.stdin.buffer if sys.stdin else io.BytesIO())
    stdout: TextIO = field(default_factory=lambda: sys.stdout or io.StringIO())
    stderr: TextIO = field(default_factory=lambda: sys.stderr or io.StringIO())
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    arguments: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()
    verbosity: int = 0
    bars: bool = True
    color: bool = True
    traceback: bool = False

    def __post_init__(self) -> None:
        # File names need not be valid text: show the odd byte rather than fail on it.
        for stream in (self.stdout, self.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        self.traceback = self.traceback or bool(self.environ.get("COMPRESSKIT_TRACEBACK"))

    def error(self, message: str) -> None:
        """Say, on one line, why there is no result."""
        if self.verbosity > -2:
            self._line(f"compresskit: error: {one_line(message)}")

    def warn(self, message: str) -> None:
        """Say, on one line, what the user should know about the result."""
        if self.verbosity > -1:
            self._line(f"compresskit: warning: {one_line(message)}")

    def note(self, message: str) -> None:
        """Say what is being done, to those who asked (-v)."""
        if self.verbosity > 0:
            self._line(f"compresskit: {one_line(message)}")

    def result(self, text: str, stream: TextIO | None = None) -> None:
        """Print the result as it is, on `stdout` unless told otherwise.

        Raises:
            OutputError: it cannot be written: the disk behind the stream is full, say.
            BrokenPipeError: nobody reads it.
        """
        target = stream or self.stdout
        try:
            target.write(text)
            target.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write the standard output: {(error.strerror or str(error)).lower()}") from error

    def show(self, *renderables: RenderableType, stream: TextIO | None = None) -> None:
        """Print rich renderables, on `stdout` unless told otherwise; -q hides them."""
        if self.verbosity > -1:
            target = stream or self.stdout
            rich = self.rich(target)
            with rich.capture() as captured:
                for renderable in renderables:
                    rich.print(renderable)
            self.result(captured.get(), target)

    def rich(self, stream: TextIO) -> RichConsole:
        """A rich console on `stream`: colours where allowed, unwrapped lines where nobody looks."""
        from rich.console import Console as RichConsole

        terminal = stream.isatty()
        return RichConsole(
            file=stream,
            force_terminal=terminal,
            no_color=not self.colored(stream),
            width=None if terminal else 120,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def colored(self, stream: TextIO) -> bool:
        """Whether to colour what is written to `stream` (https://no-color.org)."""
        return self.color and stream.isatty() and not self.environ.get("NO_COLOR") and self.environ.get("TERM") != "dumb"

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show the progress of what runs inside: a bar on a terminal, else log lines with -v, else nothing."""
        from .bars import LogLines, drawn_bar

        if self.bars and self.verbosity > -1 and self.stderr.isatty() and self.environ.get("TERM") != "dumb":
            with drawn_bar(self.rich(self.stderr), verbose=self.verbosity > 0) as bar:
                yield bar
        elif self.verbosity > 0:
            yield LogLines(self.note)
        else:
            yield SILENT

    def _line(self, text: str) -> None:
        # Where stderr is closed or full there is nobody left to tell.
        with suppress(OSError):
            self.stderr.write(text + "\n")
            self.stderr.flush()


def one_line(message: str) -> str:
    """`message` on one line, with whatever could move a terminal's cursor made visible."""
    words = " ".join(message.split())
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in words)
