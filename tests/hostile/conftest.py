"""What the hostile tests share: a child process to read in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import pytest

Work = Callable[[int], object]


@pytest.fixture(scope="session")
def in_child() -> Callable[[Work], tuple[int, str]]:
    """Runs work in a forked child, with a pipe to write to; gives its wait status and what it wrote."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")

    def run(work: Work) -> tuple[int, str]:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads; the child uses none of them
            child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                work(writer)
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            written = stream.read()
        return os.waitpid(child, 0)[1], written

    return run
