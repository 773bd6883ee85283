"""What every command that turns a model into a model does around its work: choose outputs, check them early, hand results over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compresskit.errors import UsageError
from compresskit.report import Report
from compresskit.writers import STDOUT, check_target, write_bytes

from .console import Console
from .options import ModelOptions, OutputOptions
from .plot import check_plot, draw_widths

FORMATS = (".onnx", ".pt", ".safetensors")


def read_model(console: Console, model: str, max_bytes: int | None) -> str | bytes:
    """The model to load: `model` itself, or for "-" the bytes of the standard input.

    Raises:
        UsageError: the standard input is a terminal, empty, or longer than `max_bytes`.
    """
    if model != STDOUT:
        return model
    if console.stdin.isatty():
        raise UsageError("no model on the standard input: it is a terminal; name a file, or pipe one in")
    content = console.stdin.read() if max_bytes is None else console.stdin.read(max_bytes + 1)
    if max_bytes is not None and len(content) > max_bytes:
        raise UsageError(f"the standard input holds over {max_bytes} bytes: raise --max-bytes if that is right")
    if not content:
        raise UsageError("no model on the standard input: it is empty")
    return content


def choose_outputs(model: str, options: OutputOptions, suffix: str) -> tuple[str, ...]:
    """Where the model goes: as asked, else `<stem><suffix>` beside the input, else the standard output for a piped input."""
    asked = (*(options.output or ()), *((STDOUT,) if options.stdout else ()))
    if asked:
        return asked
    if model == STDOUT:
        return (STDOUT,)
    if Path(model).is_file():
        return (str(Path(model).with_name(Path(model).stem + suffix)),)
    # A zoo name, a factory ("pkg.mod:make_net"), or a file that the reader will miss: the working folder.
    return ((model.rpartition(":")[2] if ":" in model else Path(model).stem) + suffix,)


def check_outputs(console: Console, model: ModelOptions, options: OutputOptions, outputs: Sequence[str]) -> None:
    """Refuse, before any work is done, what could not be written in the end.

    Raises:
        UsageError: an output exists, is the input, is named twice or has an unknown suffix; two things want the standard output, or it
            is a terminal and the model would go there.
        OutputError: a folder is missing or read-only.
    """
    files = [*(name for name in outputs if name != STDOUT), *(name for name in (options.report, options.plot) if name)]
    for name in outputs:
        if name != STDOUT and Path(name).suffix.lower() not in FORMATS and not Path(name).is_char_device():
            raise UsageError(f"cannot write {name}: the suffix decides the format, one of {', '.join(FORMATS)}")
    for name in (*files, *outputs):
        if [*outputs, options.report, options.plot].count(name) > 1:
            raise UsageError(f"{'the standard output' if name == STDOUT else name} is named twice as an output")
    if STDOUT in (options.report, options.plot):
        raise UsageError("--report and --plot take files: --json prints the report on the standard output")
    if STDOUT in outputs and options.json:
        raise UsageError("--json and the model both want the standard output: name a file with -o, or the report's with --report")
    if STDOUT in outputs and console.stdout.isatty():
        raise UsageError("binary output is not written to a terminal: redirect it, or name a file with -o")
    if options.plot:
        check_plot(Path(options.plot))
    for name in files:
        check_target(Path(name), force=options.force, protect=_inputs(model))


def deliver(
    console: Console, model: ModelOptions, options: OutputOptions, report: Report, standard_output: bytes | None, *, verbose: bool, write: bool
) -> None:
    """Hand over what a command made: the bytes for the standard output, the report's file, the drawing, and the tables or the JSON.

    Args:
        write: False for a dry run, which leaves no file.

    Raises:
        OutputError: one of them cannot be written.
    """
    if standard_output is not None:
        write_bytes(STDOUT, standard_output, force=options.force)
    if write and options.report:
        write_bytes(Path(options.report), report.to_json().encode(), force=options.force, protect=_inputs(model))
    if write and options.plot:
        write_bytes(Path(options.plot), draw_widths(report, Path(options.plot).suffix), force=options.force, protect=_inputs(model))
    if options.json:
        console.result(report.to_json())
    else:
        from .tables import report_tables

        stream = console.stderr if standard_output is not None else console.stdout
        console.show(*report_tables(report, verbose=verbose), stream=stream)
    for warning in report.warnings:
        console.warn(warning)


def _inputs(options: ModelOptions) -> tuple[Path, ...]:
    return () if options.model == STDOUT else (Path(options.model),)
