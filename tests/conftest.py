"""What tests of several folders share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

settings.register_profile("compresskit", deadline=None)  # a busy machine is no failure
settings.load_profile("compresskit")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small networks compute faster in one thread, and to the same bits."""
    import torch  # not before a test asks for it: some look at what is imported

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def maker() -> Callable[[str], ModuleType]:
    """Imports a script of the folder `hostile` by its stem."""

    def load(stem: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"hostile_{stem}", Path(__file__).parent / f"hostile/{stem}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickles look it up there
        spec.loader.exec_module(module)
        return module

    return load
