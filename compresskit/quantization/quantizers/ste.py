"""Grids that stay as post-training quantization chose them; only the numbers move."""

from __future__ import annotations

from compresskit.quantization.quantizers.base import QUANTIZERS, FakeQuant, Quantizer

QUANTIZERS.register("ste")(Quantizer(weight=lambda grid, _: FakeQuant(grid), activation=FakeQuant))
