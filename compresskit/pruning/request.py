"""What `prune` is asked for, from file to files; free of torch."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.errors import UsageError
from compresskit.pruning.config import PruneConfig
from compresskit.requests import CompressRequest, ModelRequest


@dataclass(frozen=True)
class PruneRequest(CompressRequest):
    """One `compresskit prune` from file to files: what `compresskit.pruning.pipeline.run` takes.

    Attributes:
        outputs: paths (suffix decides the format: .onnx, .pt, .safetensors) or "-" for ONNX bytes on stdout.
        table: file with a latency table, for a latency as target; None: one is measured here, or was.

    Raises:
        UsageError: what is asked for needs data or a latency as target, and there is none.
    """

    config: PruneConfig
    outputs: tuple[str, ...] = ()
    table: str | None = None

    def __post_init__(self) -> None:
        target = self.config.target
        if self.table is not None and (target is None or target.quantity != "latency"):
            raise UsageError("--table says how long operators take: it goes with --latency")
        if self.config.max_drop is not None and self.data is None:
            raise UsageError("--max-drop needs --data to measure accuracy on")
        self.config.check_data(data=self.data is not None)


@dataclass(frozen=True)
class TableRequest(ModelRequest):
    """One `compresskit prune --measure-table`: what `compresskit.pruning.tabulate.tabulate` takes.

    Attributes:
        output: file for the table.
    """

    output: str
