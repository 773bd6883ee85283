"""The options that commands share, as frozen dataclasses: a field is an option, a command's options are their sum.

ModelOptions   DataOptions   ModelOutputOptions   ReportOptions   RunOptions      the groups
     └─────────────┴──────────┬───────┴────────────────┴──────────────┘
                         PruneOptions                         adds its own, and is what `takes` hands to the command
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import typer
from typer.models import OptionInfo

from compresskit.errors import UsageError

from . import config
from .console import Console

TARGET, DATA, MODEL, OUTPUT, METHOD, TRAINING = "Target", "Data", "Model", "Output", "Method", "Training"
RUN, GENERAL = "This run", "General"
PANELS = (TARGET, DATA, OUTPUT, METHOD, TRAINING, MODEL, RUN, GENERAL)
"""Groups of options in the order in which `--help` lists them: what most people need, first."""

T = TypeVar("T")


def option(panel: str, help: str, *names: str, metavar: str | None = None, **more: Any) -> Any:
    """An option of `panel`; it takes a value where it has a `metavar`, and is a flag where not."""
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel, **more)


def cluster(panel: str) -> Any:
    """The option that names a cluster; commands list it where they list --jobs."""
    return option(panel, "Spread the work over a Dask cluster: tcp://host:8786.", "--cluster", metavar="ADDRESS")


def _print_help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        context.obj.result(context.get_help() + "\n")
        raise typer.Exit


MaxBytes = Annotated[str | None, option(RUN, "Refuse to unpack more than this from one file: 500MB, 8GB.", "--max-bytes", metavar="N")]
DryRun = Annotated[bool, option(RUN, "Check everything, say what would be done, write nothing.", "--dry-run")]
Device = Annotated[str, option(RUN, "auto, cpu, cuda or cuda:N.", "--device", metavar="D")]
DrawnSeed = Annotated[int | None, option(RUN, "Seed of everything random; drawn, and reported, unless given.", "--seed", metavar="N", min=0)]
Help = Annotated[bool, option(GENERAL, "Show this and exit.", "-h", "--help", is_eager=True, callback=_print_help)]


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and what its file leaves open."""

    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A .onnx, .pt, .pth, .safetensors or .pt2 file, a zoo name, module:factory, or -."),
    ]
    arch: Annotated[
        str | None,
        option(MODEL, "What a bare state_dict belongs to: a zoo name, module:factory or file.py:factory.", "--arch", metavar="A"),
    ] = None
    input: Annotated[str | None, option(MODEL, "Shape of one input without the batch: 3,32,32.", "--input", metavar="SHAPE")] = None
    trust: Annotated[bool, option(MODEL, "Load a file that runs code when it is loaded (.pt2, TorchScript, pickled modules).", "--trust")] = False
    max_bytes: MaxBytes = None


@dataclass(frozen=True)
class DataOptions:
    """What to train and measure on."""

    data: Annotated[
        str | None,
        option(
            DATA,
            "Samples: .npz, .npy pair, IDX, csv, tsv (of texts too), a folder of images by class, or module:function.",
            "--data",
            metavar="D",
        ),
    ] = None
    mean: Annotated[str | None, option(DATA, "Mean of each channel, of pixels in 0..1: .49,.48,.45.", "--mean", metavar="M,..")] = None
    std: Annotated[str | None, option(DATA, "Standard deviation of each channel, likewise.", "--std", metavar="S,..")] = None
    label_column: Annotated[str | None, option(DATA, "Column of a csv or tsv file that holds the class.", "--label-column", metavar="NAME")] = None


# Options of every command that trains; each command has its own defaults.
Epochs = Annotated[float, option(TRAINING, "Passes over the training data; 0: measure, do not train.", "--epochs", metavar="E", min=0)]
LearningRate = Annotated[float | None, option(TRAINING, "Peak learning rate; chosen for the optimizer unless given.", "--lr", metavar="LR", min=0)]
BatchSize = Annotated[int, option(TRAINING, "Samples a step.", "--batch-size", metavar="B", min=1)]
Optimizer = Annotated[Literal["sgd", "adamw"], option(TRAINING, "Optimizer.", "--optimizer", metavar="NAME")]
Schedule = Annotated[Literal["one-cycle", "cosine", "multistep", "constant"], option(TRAINING, "Of the learning rate.", "--schedule", metavar="NAME")]
LabelSmoothing = Annotated[float, option(TRAINING, "Label smoothing.", "--label-smoothing", metavar="E", min=0, max=1)]
Augment = Annotated[
    Literal["auto", "none", "crop-flip"],
    option(TRAINING, "Change the images while training; auto: where mirror images keep their class.", "--augment", metavar="HOW"),
]
Distill = Annotated[float, option(TRAINING, "Weight of the original's outputs in the loss; 0: labels only.", "--distill", metavar="W", min=0, max=1)]
Checkpoint = Annotated[str | None, option(TRAINING, "Keep the state of the training here, for --resume.", "--checkpoint", metavar="FILE")]
CheckpointMinutes = Annotated[float, option(TRAINING, "How often.", "--checkpoint-minutes", metavar="N", min=0)]
Resume = Annotated[bool, option(TRAINING, "Go on from --checkpoint, to the result that one run would have had.", "--resume")]


@dataclass(frozen=True)
class ReportOptions:
    """How results are handed over."""

    force: Annotated[bool, option(OUTPUT, "Replace existing files.", "-f", "--force")] = False
    json: Annotated[bool, option(OUTPUT, "Print the report as one JSON object in place of tables.", "--json")] = False
    report: Annotated[str | None, option(OUTPUT, "Write the report as JSON.", "--report", metavar="FILE")] = None


@dataclass(frozen=True)
class ModelOutputOptions:
    """Where a model goes."""

    output: Annotated[
        list[str] | None,
        option(
            OUTPUT,
            "Write here; the suffix (.onnx, .pt) decides the format; may repeat; -: standard output.",
            "-o",
            "--output",
            metavar="FILE",
        ),
    ] = None
    stdout: Annotated[bool, option(OUTPUT, "Write the model to the standard output (ONNX).", "-c", "--stdout")] = False
    plot: Annotated[str | None, option(OUTPUT, "Draw the widths before and after (.png, .svg, .pdf).", "--plot", metavar="FILE")] = None


@dataclass(frozen=True)
class RunOptions:
    """How much of the machine to use, and how much to say."""

    threads: Annotated[
        int | None, option(RUN, "Threads to compute with; 0: all; as many as help unless given.", "-T", "--threads", metavar="N", min=0)
    ] = None
    config: Annotated[
        str | None,
        option(GENERAL, "Take options from this TOML file.", "--config", metavar="FILE", is_eager=True, callback=config.load_into),
    ] = None
    verbose: Annotated[int, option(GENERAL, "Say what is being done, and list everything.", "-v", "--verbose", count=True)] = 0
    quiet: Annotated[int, option(GENERAL, "Say nothing but errors; twice: not even those.", "-q", "--quiet", count=True)] = 0
    no_progress: Annotated[bool, option(GENERAL, "Draw no progress bar.", "--no-progress")] = False
    no_color: Annotated[bool, option(GENERAL, "Use no colour (NO_COLOR does the same).", "--no-color")] = False
    traceback: Annotated[bool, option(GENERAL, "Show where in the code an error came from.", "--traceback")] = False
    help: Help = False

    def apply_to(self, console: Console) -> None:
        """Make `console` talk as these options say."""
        console.verbosity = max(-2, min(2, self.verbose - self.quiet))
        console.bars = console.bars and not self.no_progress
        console.color = console.color and not self.no_color
        console.traceback = console.traceback or self.traceback


def takes(options: type[T]) -> Callable[[Callable[[Console, T], None]], Callable[..., None]]:
    """Decorate a command so that Typer sees a parameter for each field of `options`, and the command one frozen object.

    >>> @app.command()
    ... @takes(PruneOptions)
    ... def prune(console: Console, options: PruneOptions) -> None: ...
    """
    hints = typing.get_type_hints(options, include_extras=True)
    shared = {field.name for group in options.__bases__ if dataclasses.is_dataclass(group) for field in dataclasses.fields(group)}
    # In every panel, what only this command has comes first.
    fields = sorted(dataclasses.fields(options), key=lambda field: (_panel_index(hints[field.name]), field.name in shared))  # type: ignore[arg-type]

    def decorate(function: Callable[[Console, T], None]) -> Callable[..., None]:
        def command(context: typer.Context, **values: Any) -> None:
            _refuse_nonfinite(values)
            context.obj.given = frozenset(name for name in values if _on_command_line(context, name))
            parsed = options(**values)
            if isinstance(parsed, RunOptions):
                parsed.apply_to(context.obj)
            function(context.obj, parsed)

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        parameters = [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
        for field in fields:
            default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
            parameters.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {"context": typer.Context, **{field.name: hints[field.name] for field in fields}}
        return command

    return decorate


def numbers(text: str | None, name: str, example: str) -> tuple[float, ...] | None:
    """Read numbers between commas, such as `example`.

    Raises:
        UsageError: an entry is no finite number.
    """
    if text is None:
        return None
    try:
        values = tuple(float(entry) for entry in text.split(","))
    except ValueError:
        raise UsageError(f"{name} {text!r}: expected numbers between commas, such as {example}") from None
    if not all(math.isfinite(value) for value in values):
        raise UsageError(f"{name} {text!r}: expected finite numbers")
    return values


def shape(text: str | None, name: str) -> tuple[int, ...] | None:
    """Read `3,32,32`.

    Raises:
        UsageError: an entry is no positive whole number.
    """
    if text is None:
        return None
    entries = text.lower().replace("x", ",").split(",")
    if not all(entry.strip().isdecimal() and int(entry) > 0 for entry in entries):
        raise UsageError(f"{name} {text!r}: expected positive whole numbers between commas, such as 3,32,32")
    return tuple(int(entry) for entry in entries)


def _refuse_nonfinite(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{spelled(name)} {value}: expected a finite number")


def byte_count(text: str | None, name: str) -> int | None:
    """Read `500MB`.

    Raises:
        UsageError: not a positive number of bytes.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmg]?)b?", text.strip(), flags=re.IGNORECASE)
    value = int(float(match[1]) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[match[2].lower()]) if match else 0
    if value < 1:
        raise UsageError(f"{name} {text!r}: expected a number of bytes, such as 500MB or 8GB")
    return value


def refuse_beside(console: Console, flag: str, names: Collection[str]) -> None:
    """Refuse those of the options `names` (fields) that the command line gives although they have no say beside `flag`.

    Raises:
        UsageError: there is one.
    """
    for name in sorted(console.given & set(names)):
        raise UsageError(f"{spelled(name)} has no say in {flag}: leave one of them out")


def refuse_without(console: Console, flag: str, names: Collection[str]) -> None:
    """Likewise those that have no say without `flag`.

    Raises:
        UsageError: there is one.
    """
    for name in sorted(console.given & set(names)):
        raise UsageError(f"{spelled(name)} goes with {flag}")


def spelled(name: str) -> str:
    """The option that is the field `name`: max_error is --max-error."""
    return f"--{name.replace('_', '-')}"


def _on_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _panel_index(annotation: Any) -> int:
    info = annotation.__metadata__[0]
    return 1 + PANELS.index(str(info.rich_help_panel)) if isinstance(info, OptionInfo) else 0
