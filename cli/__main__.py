"""`python -m compresskit.cli`."""

from .app import run

run()
