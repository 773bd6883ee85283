"""What quantization makes, of whatever kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from compresskit.quantization.codebook import Codebook
from compresskit.quantization.grid import Grid
from compresskit.quantization.integrity import Integrity
from compresskit.quantization.layers import Layer
from compresskit.quantization.network import Network
from compresskit.quantization.plan import Plan
from compresskit.quantization.statistics import Statistics
from compresskit.report import Skipped


@dataclass(frozen=True)
class Quantized:
    """A quantized network.

    Attributes:
        model: as ONNX.
        network: the float model, simplified and perhaps equalized, that it was made from.
        layers: what was quantized.
        weights: grids by the weights' names; none where codebooks take their place.
        activations: grids by tensor; none where only weights were quantized.
        skipped: what was left in float, and why.
        plan, statistics: of static quantization.
        rounded: weights that lie on their grids, not at the nearest integers, and biases that were corrected; by name.
        equalized: whether channels were brought to like ranges across layers.
        codebooks: by the weights' names.
        integrity: how ONNX Runtime's integers compare with the reference's; None where nothing was compared.
    """

    model: onnx.ModelProto
    network: Network
    layers: tuple[Layer, ...]
    weights: Mapping[str, Grid]
    activations: Mapping[str, Grid]
    skipped: tuple[Skipped, ...]
    plan: Plan | None = None
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    rounded: Mapping[str, np.ndarray] = field(default_factory=dict)
    equalized: bool = False
    codebooks: Mapping[str, Codebook] = field(default_factory=dict)
    integrity: Integrity | None = None
