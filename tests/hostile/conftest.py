"""What the hostile tests share: their makers, and a child process to read in."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Work = Callable[[int], object]


@pytest.fixture(scope="session")
def maker() -> Callable[[str], ModuleType]:
    """Imports a script of this folder by its stem."""

    def load(stem: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"hostile_{stem}", Path(__file__).with_name(f"{stem}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickles look it up there
        spec.loader.exec_module(module)
        return module

    return load


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
