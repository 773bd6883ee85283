"""What the package offers, and that it costs nothing before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import compresskit.metaprune


def test_the_names_are_imported_when_used() -> None:
    script = (
        "import sys, compresskit.metaprune as package; light = 'torch' not in sys.modules; "
        "print(light, *(name for name in package.__all__ if callable(getattr(package, name))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stderr, done.stdout.split()) == ("", ["True", *compresskit.metaprune.__all__])


def test_other_names_are_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prune'"):
        compresskit.metaprune.prune  # noqa: B018
