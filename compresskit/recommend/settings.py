"""What can be recommended: a pruner with its sparsity and a quantizer with its bits. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from compresskit.errors import UsageError

NONE = "none"
FLOAT_BITS = 32

Pruner = str
Quantizer = str
# Said again here because their methods load torch; a test holds the two together.
PRUNERS: tuple[Pruner, ...] = ("level", "level-tuned", "l1", "slimming", "taylor", "l1l2")
QUANTIZERS: tuple[Quantizer, ...] = ("uniform", "dorefa", "lsq")
SPARSITIES = (0.3, 0.5, 0.65, 0.75, 0.85, 0.9, 0.94)
BITS = (8, 6, 4, 3, 2)


@dataclass(frozen=True, order=True)
class Setting:
    """One way to compress a model (Meta Compression, section 3.3: a method, its identifiers and levels).

    Attributes:
        pruner: one of PRUNERS, or "none".
        quantizer: one of QUANTIZERS, or "none".
        sparsity: the fraction of the parameters that goes, 0 with no pruner.
        bits: of a weight and of an activation, 32 with no quantizer.

    Raises:
        UsageError: a level without its method, or out of its range.
    """

    pruner: Pruner = NONE
    quantizer: Quantizer = NONE
    sparsity: float = 0.0
    bits: int = FLOAT_BITS

    def __post_init__(self) -> None:
        if self.pruner not in (NONE, *PRUNERS) or self.quantizer not in (NONE, *QUANTIZERS):
            raise UsageError(f"{self.pruner} + {self.quantizer} is unknown: choose from {', '.join(PRUNERS)} and {', '.join(QUANTIZERS)}, or none")
        if not 0 <= self.sparsity < 1 or (self.sparsity > 0) != (self.pruner != NONE):
            raise UsageError(f"{self.pruner} with sparsity {self.sparsity:g}: a pruner takes a removed fraction between 0 and 1, none takes 0")
        if (self.quantizer == NONE) != (self.bits == FLOAT_BITS) or not 2 <= self.bits <= FLOAT_BITS:
            raise UsageError(f"{self.quantizer} with {self.bits} bits: a quantizer takes 2 to 16 bits, none takes {FLOAT_BITS}")

    @property
    def compression(self) -> float:
        """How many times fewer bits the parameters that are not zero take."""
        return FLOAT_BITS / self.bits / (1 - self.sparsity)

    def __str__(self) -> str:
        pruned = f"{self.pruner} {self.sparsity:.0%}" if self.sparsity else ""
        quantized = f"{self.quantizer} {self.bits} bits" if self.quantizer != NONE else ""
        return " + ".join(filter(None, (pruned, quantized))) or "as it is"


def grid(
    pruners: Iterable[Pruner] = PRUNERS,
    quantizers: Iterable[Quantizer] = QUANTIZERS,
    sparsities: Iterable[float] = SPARSITIES,
    bits: Iterable[int] = BITS,
) -> tuple[Setting, ...]:
    """Every pair of a pruner at a sparsity, or none, with a quantizer at a width, or none; the model as it is, first."""
    pruned = [(NONE, 0.0), *product(pruners, sparsities)]
    quantized = [(NONE, FLOAT_BITS), *product(quantizers, bits)]
    return tuple(Setting(pruner, quantizer, sparsity, width) for (pruner, sparsity), (quantizer, width) in product(pruned, quantized))
