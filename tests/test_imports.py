"""Nothing heavy is imported before a command runs: `--help` answers at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "onnx", "onnxruntime", "matplotlib", "torch_pruning", "rich")


def _imported_by(statement: str) -> set[str]:
    """The heavy modules that a fresh interpreter holds after `statement`."""
    script = f"import sys\ntry:\n    {statement}\nexcept SystemExit: pass\nprint('\\0', *(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("\0")[2].split())


def _command_line(*arguments: str) -> str:
    return f"from compresskit.cli import app; app.main({list(arguments)!r}, app.Console())"


@pytest.mark.parametrize(
    "statement",
    [
        "import compresskit",
        "import compresskit.cli.app",
        "import compresskit.report, compresskit.writers, compresskit.errors, compresskit.registry, compresskit.progress, compresskit.runtime",
        "import compresskit.pruning.config",
        "import compresskit.quantization.config",
        "import compresskit.metaprune.config",
        "import compresskit.codec.config, compresskit.codec.reports",
        _command_line("--help"),
        _command_line("--version"),
        _command_line("prune", "--help"),
        _command_line("prune", "model.onnx", "--flops", "0"),
        _command_line("quantize", "--help"),
        _command_line("quantize", "model.onnx", "--weights", "1"),
        _command_line("encode", "--help"),
        _command_line("encode", "scan.nii", "--quality", "0"),
        _command_line("decode", "--help"),
        _command_line("decode", "scan.coinpp", "-o", "a.nii", "-c"),
    ],
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    assert _imported_by(statement) == set()


def test_this_test_can_fail() -> None:
    assert "numpy" in _imported_by("import numpy")


def test_the_public_names_exist_and_are_imported_when_used() -> None:
    import compresskit

    script = "import compresskit; print(*(name for name in compresskit.__all__ if callable(getattr(compresskit, name))))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stderr, done.stdout.split()) == ("", compresskit.__all__)
    assert {"load_data", "load_model", "prune"} <= set(compresskit.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import compresskit

    with pytest.raises(AttributeError, match="no attribute 'prunee'"):
        _ = compresskit.prunee
