"""What `quantize --sweep` is asked to do. Free of torch and numpy, so that the command line can build it before anything heavy loads."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from compresskit.errors import UsageError
from compresskit.quantization.config import QuantizeConfig
from compresskit.requests import CompressRequest


@dataclass(frozen=True)
class SweepRequest(CompressRequest):
    """One `compresskit quantize --sweep`: what `compresskit.quantization.sweep.run` takes.

    Attributes:
        configs: one a point, as parse_widths makes them.
        outputs: paths of .onnx files, or "-" for the bytes on stdout: of the smallest model that `max_drop` of the configs allows, or else the
            most accurate.
    """

    configs: tuple[QuantizeConfig, ...]
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.data is None:
            raise UsageError("--sweep measures accuracy: give --data")
        if self.outputs and self.configs[0].max_drop is None:
            raise UsageError("--sweep writes the smallest model that is accurate enough: give --max-drop with -o, or leave out -o")


def parse_widths(text: str, config: QuantizeConfig) -> tuple[QuantizeConfig, ...]:
    """The settings of every point of `8,6,4` (weights and activations alike) or `8:4,4:4` (weights : activations), beside those in `config`.

    Raises:
        UsageError: an entry is neither, repeats another, or asks for bits that there are not.
    """
    widths: list[tuple[int, int]] = []
    for entry in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?::(\d{1,3}))?\s*", entry)
        if match is None:
            raise UsageError(f"--sweep {text!r}: expected bits between commas, such as 8,6,4, or of weights and activations, such as 8:4,4:4")
        width = int(match[1]), int(match[2] or match[1])
        if width in widths:
            raise UsageError(f"--sweep {text!r}: {entry.strip()} is there twice")
        widths.append(width)
    return tuple(replace(config, weights=weights, activations=activations) for weights, activations in widths)
