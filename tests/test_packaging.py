"""What a wheel would hold: setuptools is told every package by name, and forgets those it is not told, in silence."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed() -> None:
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "compresskit").rglob("__init__.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found | {"compresskit.cli"}


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for folder in ("compresskit", "cli") for path in (ROOT / folder).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_typing_marker_is_packaged() -> None:
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["compresskit"]
    assert (ROOT / "compresskit" / "py.typed").is_file()


def test_the_entry_point_exists() -> None:
    module, _, function = PROJECT["project"]["scripts"]["compresskit"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "CHANGELOG.md", "constraints.txt"])
def test_the_files_that_come_along_are_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def test_the_changelog_knows_this_version() -> None:
    assert f"## {PROJECT['project']['version']}" in (ROOT / "CHANGELOG.md").read_text()
