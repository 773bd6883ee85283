"""Trying what may take more memory than there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

_SIGNS = ("can't allocate memory", "out of memory")  # on the CPU and on a GPU


def attempted(run: Callable[[], Result]) -> Result | None:
    """What `run` gives; None where memory ran out, and a way that takes less may be tried.

    Such a way has to wait until this is over: the error, while it is handled, holds on to all that was computed.
    """
    try:
        return run()
    except (MemoryError, RuntimeError) as error:
        if not lacked_memory(error):
            raise
        return None


def lacked_memory(error: BaseException) -> bool:
    """Whether an error of torch says that memory ran out."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)
