"""Quantization of stored weights alone, for which no data are needed: storage, computed with in float."""

from __future__ import annotations

from compresskit.quantization.codebook import codebooks
from compresskit.quantization.emit import emit_codebooks, emit_weights
from compresskit.quantization.layers import require_layers
from compresskit.quantization.network import Network
from compresskit.quantization.plan import left_alone
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.weights import Bits, weight_grids


def quantize_weights(network: Network, bits: Bits, source: str) -> Quantized:
    """Quantize the stored weights; everything is computed in float.

    Args:
        bits: of all weights, or of each by its name.

    Raises:
        InputError: there are none.
    """
    layers = require_layers(network, source)
    grids = weight_grids(network, layers, bits)
    return Quantized(emit_weights(network, grids), network, layers, grids, {}, tuple(left_alone(network)))


def quantize_by_codebook(network: Network, bits: int, source: str) -> Quantized:
    """Store the weights as indices of `bits` into codebooks; everything is computed in float.

    Raises:
        InputError: there are none.
    """
    layers = require_layers(network, source)
    books = codebooks(network, layers, bits)
    return Quantized(emit_codebooks(network, books), network, layers, {}, {}, tuple(left_alone(network)), codebooks=books)
