"""Imports point one way: a part of the library knows those before it in this list, and none knows the command line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    "errors",
    "wording",
    "requests",
    "recipes",
    "registry",
    "progress",
    "runtime",
    "json_report",
    "report",
    "guards",
    "writers",
    "models",
    "data",
    "training",
    "parallel",
    "cluster",
    "pruning",
    "quantization",
    "recommend",
    "metaprune",
    "codec",
)
FILES = sorted(path for path in (ROOT / "compresskit").rglob("*.py") if path != ROOT / "compresskit" / "__init__.py")


def _imports(source: str) -> Iterator[str]:
    """Dotted names of every import, those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            yield str(node.module)
            if node.module == "compresskit":
                yield from (f"compresskit.{alias.name}" for alias in node.names)


def _wrong(layer: str, source: str) -> list[str]:
    """Imports in `source`, which belongs to `layer`, of the command line or of a later layer."""
    parts = [name.split(".") for name in _imports(source)]
    ours = [part[1] for part in parts if part[0] == "compresskit" and len(part) > 1]
    return [part for part in ours if part == "cli" or LAYERS.index(part) > LAYERS.index(layer)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upward(path: Path) -> None:
    layer = path.relative_to(ROOT / "compresskit").parts[0].removesuffix(".py")
    assert layer in LAYERS, f"give {layer} its place in LAYERS"
    assert _wrong(layer, path.read_text()) == []


def test_this_test_can_fail() -> None:
    assert _wrong("models", "def f():\n    from compresskit.pruning import groups") == ["pruning"]
    assert _wrong("models", "from compresskit import cli") == ["cli"]
    assert _wrong("pruning", "import compresskit.models.graph, compresskit.errors") == []
