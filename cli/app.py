"""The program: its commands, and the only place that turns an error into one line and an exit code."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from compresskit.errors import CompresskitError, ExitCode

from .console import Console
from .decode import decode
from .encode import encode
from .help import Command, Group
from .metaprune import metaprune
from .options import Help
from .prune import prune
from .quantize import quantize
from .recommend import recommend

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    # `Help` in options.py is the option in its place, which prints on our console.
    context_settings={"help_option_names": []},
)
for command in (prune, quantize, metaprune, recommend, encode, decode):
    app.command(cls=Command)(command)


_MEMORY_SIGNS = (
    "can't allocate memory",  # torch
    "out of memory",  # CUDA
    "could not create a primitive",  # oneDNN
    "std::bad_alloc",  # ONNX Runtime
    "failed to map segment",  # the loader of shared libraries
)
"""How libraries say that memory ran out, those that raise no MemoryError."""


class Signalled(BaseException):
    """A signal asked the process to end. No `except Exception` stops it, so that clean-up runs and nothing else does."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        context.obj.result(f"compresskit {version('compresskit')}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_print_version)] = False,
    help: Help = False,
) -> None:
    """Make models and data files smaller, and say what that costs."""


def run() -> NoReturn:
    """The entry point of the `compresskit` command."""
    # Threads that spin while they wait make a shared machine several times slower; read once, when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Likewise when ONNX Runtime loads: what users do, and to which models, is not told to anyone.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.exit(main(sys.argv[1:], Console()))


def main(arguments: Sequence[str], console: Console) -> int:
    """Run the command line `arguments` (without the program's name) and return its exit code; errors go to `console`."""
    console.arguments = tuple(arguments)
    try:
        with _signals_raised(), _warnings_hidden(console):
            command = typer.main.get_command(app)
            with command.make_context("compresskit", list(arguments), obj=console) as context:
                command.invoke(context)
        return ExitCode.OK
    except typer.Exit as exit:
        return exit.exit_code
    except BaseException as error:
        code, message = explain(error)
        if message:
            if console.traceback:
                console.stderr.write("".join(traceback.format_exception(error)))
            console.error(message)
        _settle_stdout(console)
        return code


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code that `error` ends the process with, and the line that explains it ("": none needed)."""
    # First of all: a reader that ran out of memory takes the file for damaged.
    if any(map(_lacked_memory, _with_causes(error))):
        return ExitCode.INPUT, "not enough memory: a smaller model, input or --batch-size needs less"
    match error:
        case CompresskitError():
            return error.code, str(error)
        case TyperException():
            return ExitCode.USAGE, _usage_message(error)
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED, "interrupted"
        case Signalled():
            return 128 + error.number, f"ended by {signal.Signals(error.number).name}"
        case BrokenPipeError():
            return 128 + signal.SIGPIPE, ""
        case _:
            about = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return ExitCode.BUG, f"unexpected {about}; this is a fault of compresskit: please report it with what --traceback shows"


def _lacked_memory(error: BaseException) -> bool:
    match error:
        case MemoryError():
            return True
        case OSError():
            return error.errno == errno.ENOMEM
        case CompresskitError() | TyperException():
            return False
        case _:
            return any(sign in str(error) for sign in _MEMORY_SIGNS)


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _usage_message(error: TyperException) -> str:
    """What Typer has to say, in our form."""
    message = error.message or error.format_message()
    if getattr(error, "param", None) is not None:
        message = error.format_message()
    # "Value error, " is what the validator underneath puts before its own words.
    message = message.replace("Value error, ", "").rstrip(".")
    message = message[:1].lower() + message[1:]
    possible: Any = getattr(error, "possibilities", None)
    if possible:
        near = difflib.get_close_matches(getattr(error, "option_name", ""), possible, n=1, cutoff=0)
        message += f" (did you mean {near[0]}?)"
    context: Any = getattr(error, "ctx", None)
    return f"{message}; see {context.command_path if context else 'compresskit'} --help"


@contextlib.contextmanager
def _signals_raised() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into exceptions, so that half-made files are removed; an ignored one (nohup) stays ignored."""

    def raise_it(number: int, frame: FrameType | None) -> NoReturn:
        raise Signalled(number)

    previous: dict[int, Any] = {}
    try:
        for number in (int(signal.SIGTERM), int(signal.SIGHUP)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, raise_it)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _warnings_hidden(console: Console) -> Iterator[None]:
    """Keep the warnings that libraries address to programmers from users, who cannot act on them."""
    with warnings.catch_warnings():
        if not console.traceback:
            warnings.simplefilter("ignore")
        yield


def _settle_stdout(console: Console) -> None:
    """Write what is buffered, or where that fails send it nowhere: the interpreter would fail on it again at exit."""
    try:
        console.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, console.stdout.fileno())
        os.close(null)
