"""The options that commands share, as frozen dataclasses: a field is an option, a command's options are their sum.

ModelOptions   DataOptions   OutputOptions   RunOptions      the groups
     └─────────────┴───────┬───────┴─────────────┘
                      PruneOptions                           adds its own, and is what `takes` hands to the command
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import typer
from typer.models import OptionInfo

from compresskit.errors import UsageError

from . import config
from .console import Console

TARGET, DATA, MODEL, OUTPUT, METHOD, TRAINING, RUN = "Target", "Data", "Model", "Output", "Method", "Training", "This run"
PANELS = (TARGET, DATA, OUTPUT, METHOD, TRAINING, MODEL, RUN)
"""Groups of options in the order in which `--help` lists them: what most people need, first."""

T = TypeVar("T")


def option(panel: str, help: str, *names: str, metavar: str | None = None, **more: Any) -> Any:
    """An option of `panel`; it takes a value where it has a `metavar`, and is a flag where not."""
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel, **more)


def _print_help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        context.obj.result(context.get_help() + "\n")
        raise typer.Exit


Help = Annotated[bool, option(RUN, "Show this and exit.", "-h", "--help", is_eager=True, callback=_print_help)]


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
    max_bytes: Annotated[str | None, option(MODEL, "Refuse to unpack more than this from one file: 500MB, 8GB.", "--max-bytes", metavar="N")] = None


@dataclass(frozen=True)
class DataOptions:
    """What to train and measure on."""

    data: Annotated[
        str | None,
        option(
            DATA,
            "Samples: .npz, .npy pair, IDX, csv, tsv, a folder of images by class, or module:function.",
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
class OutputOptions:
    """Where results go."""

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
    force: Annotated[bool, option(OUTPUT, "Replace existing files.", "-f", "--force")] = False
    json: Annotated[bool, option(OUTPUT, "Print the report as one JSON object in place of tables.", "--json")] = False
    report: Annotated[str | None, option(OUTPUT, "Write the report as JSON.", "--report", metavar="FILE")] = None
    plot: Annotated[str | None, option(OUTPUT, "Draw the widths before and after (.png, .svg, .pdf).", "--plot", metavar="FILE")] = None


@dataclass(frozen=True)
class RunOptions:
    """What the machine should do, and how much it should say."""

    threads: Annotated[
        int | None, option(RUN, "Threads to compute with; 0: all; as many as the model can use unless given.", "-T", "--threads", metavar="N", min=0)
    ] = None
    device: Annotated[str, option(RUN, "auto, cpu, cuda or cuda:N.", "--device", metavar="D")] = "auto"
    seed: Annotated[int | None, option(RUN, "Seed of everything random; drawn, and reported, unless given.", "--seed", metavar="N", min=0)] = None
    dry_run: Annotated[bool, option(RUN, "Check everything, say what would be done, write nothing.", "--dry-run")] = False
    config: Annotated[
        str | None,
        option(RUN, "Take options from this TOML file.", "--config", metavar="FILE", is_eager=True, callback=config.load_into),
    ] = None
    verbose: Annotated[int, option(RUN, "Say what is being done, and list everything.", "-v", "--verbose", count=True)] = 0
    quiet: Annotated[int, option(RUN, "Say nothing but errors; twice: not even those.", "-q", "--quiet", count=True)] = 0
    no_progress: Annotated[bool, option(RUN, "Draw no progress bar.", "--no-progress")] = False
    no_color: Annotated[bool, option(RUN, "Use no colour (NO_COLOR does the same).", "--no-color")] = False
    traceback: Annotated[bool, option(RUN, "Show where in the code an error came from.", "--traceback")] = False
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
    fields = sorted(dataclasses.fields(options), key=lambda field: _panel_index(hints[field.name]))  # type: ignore[arg-type]

    def decorate(function: Callable[[Console, T], None]) -> Callable[..., None]:
        def command(context: typer.Context, **values: Any) -> None:
            _refuse_nonfinite(values)
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


def numbers(text: str | None, name: str) -> tuple[float, ...] | None:
    """Read `.49,.48,.45`.

    Raises:
        UsageError: an entry is no finite number.
    """
    if text is None:
        return None
    try:
        values = tuple(float(entry) for entry in text.split(","))
    except ValueError:
        raise UsageError(f"{name} {text!r}: expected numbers between commas, such as 0.49,0.48,0.45") from None
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
            raise UsageError(f"--{name.replace('_', '-')} {value}: expected a finite number")


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


def _panel_index(annotation: Any) -> int:
    info = annotation.__metadata__[0]
    return 1 + PANELS.index(str(info.rich_help_panel)) if isinstance(info, OptionInfo) else 0
