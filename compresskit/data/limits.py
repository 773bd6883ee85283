"""How much a data set may take, checked against what headers declare before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.errors import InputError
from compresskit.wording import human


@dataclass(frozen=True)
class Limits:
    """Bounds on data from outside.

    Attributes:
        max_bytes: of all arrays of one data set together, unpacked (`--max-bytes`).
        max_pixels: of one image file, as its header declares them (`--max-pixels`).
    """

    max_bytes: int = 2 * 2**30
    max_pixels: int = 2**25


DEFAULT_LIMITS = Limits()


class ByteBudget:
    """The bytes that are left while something from outside is read.

    Args:
        count: how many there are.
        refusal: what is said of whatever would take more, behind its name.
    """

    def __init__(self, count: int, refusal: str) -> None:
        self._left = count
        self._refusal = refusal

    def take(self, count: int, what: str) -> None:
        """Reserve `count` bytes for `what`. To be called before the bytes are allocated.

        Raises:
            InputError: that is more than is left.
        """
        if count > self._left:
            raise InputError(f"{what}: {self._refusal}")
        self._left -= count


class Budget(ByteBudget):
    """The bytes of `limits.max_bytes` that are left while one data set is read."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits.max_bytes, f"unpacks to over {human(limits.max_bytes)} in all; if that is meant, raise --max-bytes")
        self.limits = limits

    def check_pixels(self, width: int, height: int, what: str) -> None:
        """Check the declared size of an image.

        Raises:
            InputError: it has more than `max_pixels` pixels.
        """
        if width * height > self.limits.max_pixels:
            raise InputError(f"{what}: {width}x{height} is over {self.limits.max_pixels} pixels; if that is meant, raise --max-pixels")
