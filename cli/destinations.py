"""Where finished models go, as a command line says it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from compresskit.errors import UsageError
from compresskit.writers import STDOUT

from .results import beside

ONNX = ".onnx"
FORMATS = (ONNX, ".pt", ".safetensors")
DECIDES = f"the suffix decides the format, one of {', '.join(FORMATS)}"
ONNX_ONLY = f"quantized models are written as {ONNX}"


class Destined(Protocol):
    """Options that say where a model goes."""

    @property
    def output(self) -> list[str] | None: ...

    @property
    def stdout(self) -> bool: ...


def asked_outputs(options: Destined, *, formats: Collection[str] = FORMATS, why: str = DECIDES) -> tuple[str, ...]:
    """Where a model goes as far as `options` say; none where they are silent.

    Args:
        formats: suffixes that the command writes.
        why: what a user is told of them who asks for another.

    Raises:
        UsageError: a suffix that is not of `formats`.
    """
    asked = (*(options.output or ()), *((STDOUT,) if options.stdout else ()))
    for name in asked:
        if name != STDOUT and Path(name).suffix.lower() not in formats and not Path(name).is_char_device():
            raise UsageError(f"cannot write {name}: {why}")
    return asked


def model_outputs(options: Destined, model: str, ending: str, *, formats: Collection[str] = FORMATS, why: str = DECIDES) -> tuple[str, ...]:
    """Where a model goes: as asked, else `<stem><ending>` beside the input, else the standard output for a piped input.

    Raises:
        UsageError: as `asked_outputs`.
    """
    asked = asked_outputs(options, formats=formats, why=why)
    if asked or model == STDOUT:
        return asked or (STDOUT,)
    return (beside(model, model_stem(model) + ending),)


def model_stem(model: str) -> str:
    """What files that are made of `model` are named after: its file or zoo name, or its factory; "model" where it is piped in."""
    if model == STDOUT:
        return "model"
    factory = model.rpartition(":")[2] if ":" in model and not Path(model).is_file() else ""
    return factory or Path(model).stem
