"""Where finished models go."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from compresskit.report import Output
from compresskit.writers import STDOUT, write_bytes


def write_onnx(model: bytes, outputs: Iterable[str], *, force: bool, protect: Collection[Path]) -> list[Output]:
    """Write an ONNX model to every output; each is complete or absent. The bytes for the standard output are the caller's to write.

    Raises:
        OutputError: one cannot be written.
    """
    outputs = list(outputs)
    for name in outputs:
        if name != STDOUT:
            write_bytes(Path(name), model, force=force, protect=protect)
    return [Output(name, "onnx", len(model)) for name in outputs]
