"""Measuring ONNX models: accuracy in ONNX Runtime, and what quantization did to each layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from compresskit.data import Dataset
from compresskit.models.isolated import Child, IsolatedSession
from compresskit.quantization.codebook import Codebook
from compresskit.quantization.grid import Grid
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.report import LayerRow
from compresskit.quantization.storage import activation_container, index_container, weight_container
from compresskit.report import Accuracy
from compresskit.training import evaluate
from compresskit.training.evaluation import as_accuracy

_BATCH = 64


def onnx_accuracy(model: bytes, name: str, data: Dataset, *, batch: int | None, threads: int, child: Child | None = None) -> Accuracy:
    """Accuracy on the test split, or on the validation split where the data have no other.

    Args:
        name: of the model's input.
        batch: that the model fixes, None for any.

    Raises:
        InputError: ONNX Runtime cannot run the model, or its outputs do not fit the labels.
    """
    split = data.test or data.validation
    with IsolatedSession(model, threads=threads, child=child) as session:
        found = evaluate(_AsModule(session, name, batch), split, data.normalization, batch_size=batch or _BATCH)
    return as_accuracy(found, len(split))


class _AsModule(nn.Module):
    """A session as `evaluate` takes a model."""

    def __init__(self, session: IsolatedSession, name: str, batch: int | None) -> None:
        super().__init__()
        self._session, self._name, self._batch = session, name, batch
        self.place = nn.Parameter(torch.zeros(0))  # says where the model is: on the CPU

    def forward(self, x: Tensor) -> Tensor:
        count = len(x)
        array = x.numpy() if self._batch is None else np.resize(x.numpy(), (self._batch, *x.shape[1:]))
        return torch.from_numpy(self._session.run({self._name: array})[0][:count].copy())


def layer_rows(done: Quantized, sensitivity: Mapping[str, float] | None = None) -> Iterator[LayerRow]:
    """What became of every layer.

    Args:
        sensitivity: as `sensitivities` finds it; None: not measured.
    """
    constants = done.network.constants
    for layer in done.layers:
        weight = constants[layer.weight]
        code = done.codebooks.get(layer.weight) or done.weights[layer.weight]
        rounded = done.rounded.get(layer.weight)
        stored = code.round_trip(weight) if rounded is None else rounded
        bias = constants[layer.bias].nbytes if layer.bias is not None else 0
        end = layer.output if done.plan is None else done.plan.result(layer.output)
        made, seen = done.activations.get(end), done.statistics.get(end)
        yield LayerRow(
            name=layer.name,
            kind=layer.node.op_type,
            weight_bits=code.bits,
            rounding="codebook" if done.codebooks else "nearest" if rounded is None else "learned",
            activation_bits=None if made is None else made.bits,
            low=None if made is None else _end(made, made.low),
            high=None if made is None else _end(made, made.high),
            clipped=None if made is None or seen is None else seen.clipped(made),
            weight_sqnr=decibels(float((weight.astype(np.float64) ** 2).sum()), float(((stored - weight) ** 2.0).sum())),
            activation_sqnr=None if made is None or seen is None else decibels(seen.power(), seen.noise(made)),
            bytes_before=weight.nbytes + bias,
            bytes_after=stored_bytes(weight.size, code) + bias + (2 * bias if done.plan is not None else 0),  # a bias has scales and zero points too
            sensitivity=None if sensitivity is None else sensitivity[layer.output],
        )


def stored_bytes(count: int, grid: Grid | Codebook) -> int:
    """What `count` weights take in the file, what turns them into floats included: scales and zero points, or scales and centers."""
    if isinstance(grid, Codebook):
        return -(-count * index_container(grid.bits).bits // 8) + grid.centers.nbytes + grid.scale.nbytes
    bits = weight_container(grid.bits).bits
    return -(-count * bits // 8) + grid.scale.size * 4 + -(-grid.scale.size * bits // 8)


def runs_in_integers(weights: int, activations: int) -> bool:
    """Whether ONNX Runtime has kernels for these widths: 8-bit elements on both sides."""
    return weight_container(weights).bits == 8 and activations == activation_container(activations).bits == 8


def decibels(signal: float, noise: float) -> float | None:
    """Signal to noise ratio [dB]; None where one of them is 0."""
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def _end(grid: Grid, integer: int) -> float:
    return float(grid.dequantize(np.array(integer)))
