"""What a recommendation has to meet (Meta Compression, section 3.1). Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compresskit.errors import UsageError


@dataclass(frozen=True)
class Constraints:
    """What a setting has to meet; at least one.

    Attributes:
        compression: at least.
        accuracy: at least, where there are classes.
        error: RMSE, at most, where targets are numbers.
        size: bytes of parameters, at most.
        latency: milliseconds, at most.
    """

    compression: float | None = None
    accuracy: float | None = None
    error: float | None = None
    size: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        if self.accuracy is not None and self.error is not None:
            raise UsageError("--min-accuracy is for classes and --max-error for numbers: give one")
        given = {
            "--compression": self.compression,
            "--min-accuracy": self.accuracy,
            "--max-error": self.error,
            "--size": self.size,
            "--latency": self.latency,
        }
        if all(value is None for value in given.values()):
            raise UsageError("say what to meet: --compression, --min-accuracy (or --max-error), --size or --latency")
        for name, value in given.items():
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} takes a number above 0, not {value:g}")
