"""Functions that users name: `pkg.mod:name` or `file.py:name`. Naming one is consent to run it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.wording import first_line

_SPEC = re.compile(r"(?P<home>.+\.py|[A-Za-z_]\w*(\.\w+)*):(?P<name>[A-Za-z_]\w*)")


def is_factory(text: str) -> bool:
    """Whether `text` has the form `pkg.mod:name` or `file.py:name`."""
    return _SPEC.fullmatch(text) is not None


def call_factory(spec: str, *args: Any) -> Any:
    """Call the function that `spec` names; see `user_function`."""
    with user_function(spec) as function:
        return function(*args)


@contextlib.contextmanager
def user_function(spec: str) -> Iterator[Callable[..., Any]]:
    """The function that `spec` names. What is raised in the context counts as raised by it.

    As for a script, modules beside `file.py` can be imported; for `pkg.mod` those in the working folder.

    Raises:
        UsageError: `spec` does not have one of the two forms.
        InputError: there is no such module, file or function, or it raises.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UsageError(f"{spec!r} names no function: expected pkg.mod:name or file.py:name")
    home, name = match["home"], match["name"]
    folder = Path(home).resolve().parent if home.endswith(".py") else Path.cwd()
    with _importable(folder):
        try:
            module = _from_file(Path(home)) if home.endswith(".py") else importlib.import_module(home)
            function = getattr(module, name, None)
            if not callable(function):
                raise InputError(f"{home} has no function {name!r}")
            yield function
        except CompresskitError:
            raise
        except Exception as error:  # the user's own code may raise anything
            raise InputError(f"{spec}: raised {type(error).__name__}: {first_line(error)}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)
