"""What every command does around its work: choose outputs, check them early, hand results over."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compresskit.errors import UsageError
from compresskit.json_report import JsonReport
from compresskit.requests import paths_of
from compresskit.runtime import SEED_LIMIT
from compresskit.writers import STDOUT, check_target, write_bytes

from .console import Console
from .options import DataOptions, ModelOptions, ReportOptions, RunOptions, byte_count, numbers, shape
from .plot import check_plot

if TYPE_CHECKING:
    from rich.console import RenderableType


class ResumeOptions(Protocol):
    """Of commands that train."""

    @property
    def checkpoint(self) -> str | None:
        """Where the state of the training is kept."""
        ...

    @property
    def resume(self) -> bool:
        """Whether to go on from there."""
        ...


def read_stdin(console: Console, what: str, max_bytes: int | None, flag: str = "--max-bytes") -> bytes:
    """The standard input, which should be `what`.

    Args:
        max_bytes: the most that `flag` allows, None for any amount.

    Raises:
        UsageError: the standard input is a terminal, empty, or longer than `max_bytes`.
    """
    if console.stdin.isatty():
        raise UsageError(f"no {what} on the standard input: it is a terminal; name a file, or pipe one in")
    content = console.stdin.read() if max_bytes is None else console.stdin.read(max_bytes + 1)
    if max_bytes is not None and len(content) > max_bytes:
        raise UsageError(f"the standard input holds over {max_bytes} bytes: raise {flag} if that is right")
    if not content:
        raise UsageError(f"no {what} on the standard input: it is empty")
    return content


def model_fields(console: Console, options: ModelOptions) -> dict[str, Any]:
    """What a request to the library says of the model, by field; the model itself where it is piped in.

    Raises:
        UsageError: an option is not of its form, or there is no model on the standard input.
    """
    max_bytes = byte_count(options.max_bytes, "--max-bytes")
    return {
        "model": read_stdin(console, "model", max_bytes) if options.model == STDOUT else options.model,
        "arch": options.arch,
        "input_shape": shape(options.input, "--input"),
        "trust": options.trust,
        "max_bytes": max_bytes,
    }


def data_fields(options: DataOptions) -> dict[str, Any]:
    """What a request says of the data, likewise.

    Raises:
        UsageError: an option is not of its form.
    """
    return {
        "data": options.data,
        "mean": numbers(options.mean, "--mean", "0.49,0.48,0.45"),
        "std": numbers(options.std, "--std", "0.25,0.24,0.26"),
        "label_column": options.label_column,
    }


def run_fields(console: Console, options: RunOptions) -> dict[str, Any]:
    """What a request says of the run and of its training: of these fields those that `options` has."""
    names = ("device", "threads", "force", "checkpoint", "resume", "checkpoint_minutes", "dry_run")
    return {**{name: getattr(options, name) for name in names if hasattr(options, name)}, "arguments": console.arguments}


def check_resume(*, resume: bool, checkpoint: str | None) -> None:
    """Refuse to go on from nowhere.

    Raises:
        UsageError: --resume without --checkpoint.
    """
    if resume and checkpoint is None:
        raise UsageError("--resume goes with --checkpoint: say which file to go on from")


def drawn_seed(seed: int | None, options: ResumeOptions | None = None) -> int:
    """`seed` if it was given, else that of the training which `options` go on with, else one that is drawn, and reported."""
    if seed is None and options is not None and options.resume and options.checkpoint is not None:
        from compresskit.training.tuning import Checkpointing

        seed = Checkpointing(Path(options.checkpoint), resume=True).settled("seed")
    return secrets.randbelow(SEED_LIMIT) if seed is None else seed


def files_read(options: ModelOptions, data: str | None, *others: str | None) -> tuple[str, ...]:
    """The files and folders that are read, and so never written: those of the model, of what builds it, of the data, and of `others`."""
    return tuple(str(path) for text in (options.model, options.arch, data, *others) if text for path in paths_of(text))


def chosen_output(output: str | None, *, stdout: bool) -> str | None:
    """What `-o` and `--stdout` say together; None where they say nothing.

    Raises:
        UsageError: they name two places.
    """
    if stdout and output not in (None, STDOUT):
        raise UsageError(f"-o {output} and --stdout contradict each other: give one")
    return STDOUT if stdout else output


def beside(source: str, name: str) -> str:
    """The path of a file `name` in the folder of the file `source`, or in the working folder where `source` is no file."""
    return str(Path(source).with_name(name)) if Path(source).is_file() else name


def protected(inputs: Sequence[str]) -> tuple[Path, ...]:
    """The files and folders among `inputs`, which are never overwritten."""
    return tuple(Path(name) for name in inputs if name != STDOUT)


def check_outputs(
    console: Console,
    options: ReportOptions,
    outputs: Sequence[str],
    *,
    what: str,
    inputs: Sequence[str],
    drawings: Mapping[str, str | None],
) -> None:
    """Refuse, before any work is done, what could not be written in the end.

    Args:
        outputs: where the command's product goes.
        what: it is: "the model".
        inputs: what is read.
        drawings: files that are written beside it, by option.

    Raises:
        UsageError: an output exists, is an input or is named twice, or the checkpoint of `options`, where they have one, is an input or an output;
            two things want the standard output, or it is a terminal and the product would go there; a drawing cannot be made.
        OutputError: a folder is missing or read-only.
    """
    besides, checkpoint = {"--report": options.report, **drawings}, getattr(options, "checkpoint", None)
    for flag, name in besides.items():
        if name == STDOUT:
            raise UsageError(f"{flag} takes a file: only --json prints on the standard output")
    for flag, drawing in drawings.items():
        if drawing:
            check_plot(Path(drawing), flag)
    names = [name for name in (*outputs, *besides.values()) if name]
    for name in names:
        if [*names, checkpoint].count(name) > 1:
            raise UsageError(f"{'the standard output' if name == STDOUT else name} is named twice as an output")
    if STDOUT in outputs and options.json:
        raise UsageError(f"--json and {what} both want the standard output: name a file with -o, or the report's with --report")
    if STDOUT in outputs and console.stdout.isatty():
        raise UsageError("binary output is not written to a terminal: redirect it, or name a file with -o")
    for name in names:
        if name != STDOUT:
            check_target(Path(name), force=options.force, protect=protected(inputs))
    if checkpoint is not None:  # that of an earlier run may be there, among the data too: training looks into it
        check_target(Path(checkpoint), force=True, protect=[path for path in protected(inputs) if not path.is_dir()])


def deliver(
    console: Console,
    options: ReportOptions,
    report: JsonReport,
    tables: Iterable[RenderableType],
    standard_output: bytes | None = None,
    *,
    inputs: Sequence[str],
    warnings: Sequence[str] = (),
    write: bool = True,
) -> None:
    """Hand over what a command made: the bytes for the standard output, the report's file, and the tables or the JSON.

    Args:
        tables: the report as a person reads it.
        inputs: what was read.
        warnings: what the user should know about the result.
        write: False for a dry run, which leaves no file.

    Raises:
        OutputError: one of them cannot be written.
    """
    if standard_output is not None:
        write_bytes(STDOUT, standard_output, force=options.force)
    if write and options.report:
        write_bytes(Path(options.report), report.to_json().encode(), force=options.force, protect=protected(inputs))
    if options.json:
        console.result(report.to_json())
    else:
        console.show(*tables, stream=console.stderr if standard_output is not None else console.stdout)
    for warning in warnings:
        console.warn(warning)
