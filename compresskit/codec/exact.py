"""Integer inference of sine networks: the same samples from every processor, thread count, batch size and library.

Every number is an integer, and is carried by float64 only because matrix products are fast there: integers below 2**53 are exact
in it, so that no order of summation and no fused multiply-add changes a result. Angles are counted in turns, so that a phase
wraps by dropping bits, and sines come from a table.

    coordinates --weight--> + bias + shift --round--> phase --sine table--> activation --weight--> ... + bias --round--> level
      2**-14      2**-f      2**-(f + 14)            2**-14                   2**-14     2**-f       2**-(f + 14)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.coordinates import grid, sphere
from compresskit.codec.sines import ACTIVATION_BITS, PHASE_BITS, sine_table
from compresskit.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = [
    "ACTIVATION_BITS",
    "OUTPUT",
    "PHASE_BITS",
    "SHIFTS",
    "IntegerLayer",
    "IntegerNetwork",
    "evaluate",
    "evaluate_outputs",
    "grid",
    "sine_table",
    "sphere",
]

OUTPUT, SHIFTS = "output", "shifts"
"""What differs from patch to patch: the output layer, or what is added to the biases of hidden layers."""

# Within these limits a sum of products stays below 2**49, and with bias, shift and rounding below 2**51, whatever a file holds.
MAX_WIDTH = 2**12
MAX_FRACTION = 32
WEIGHT_LIMIT = 2**23
OFFSET_LIMIT = 2**49

# Added to an integer below 2**51 in magnitude, this gives a float64 from 2**52 to 2**53: the low 52 of its bits in memory are that
# integer + 2**51, and can be shifted and masked where they stand. A conversion to int64 takes longer.
_ORIGIN = 3 * 2**51
# What one round works on; more falls out of the second-level cache and takes twice as long.
_ROUND_BYTES = 2**21

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One layer. A hidden layer counts in turns, the linear output in the range of the samples, 0 to 1.

    Attributes:
        weight: (out, in), below `WEIGHT_LIMIT` in magnitude, in units of 2**-fraction.
        bias: (out,), below `OFFSET_LIMIT` in magnitude, in units of 2**-(fraction + ACTIVATION_BITS).
        fraction: 1 to `MAX_FRACTION`.

    Raises:
        InputError: a shape or a value is outside the bounds within which inference is exact.
    """

    weight: Integers
    bias: Integers
    fraction: int

    def __post_init__(self) -> None:
        weight, bias = self.weight, self.bias
        if weight.dtype != np.int64 or bias.dtype != np.int64:
            raise InputError(f"the network has {weight.dtype} weights and {bias.dtype} biases: both must be int64")
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or not all(0 < size <= MAX_WIDTH for size in weight.shape):
            raise InputError(
                f"the network has a weight of shape {weight.shape} with a bias of {bias.shape}: widths must agree, from 1 to {MAX_WIDTH}"
            )
        if not 1 <= self.fraction <= MAX_FRACTION:
            raise InputError(f"the network has a layer of {self.fraction} fractional bits: there must be 1 to {MAX_FRACTION}")
        _check_magnitude(weight, WEIGHT_LIMIT, "weight")
        _check_magnitude(bias, OFFSET_LIMIT, "bias")


@dataclass(frozen=True)
class IntegerNetwork:
    """A SIREN in integers: hidden layers of one width, then the linear output.

    Raises:
        InputError: there is no hidden layer, or the layers do not fit together.
    """

    layers: tuple[IntegerLayer, ...]

    def __post_init__(self) -> None:
        if len(self.layers) < 2:
            raise InputError(f"the network has {len(self.layers)} layers: there must be a hidden one and the output")
        shapes = [layer.weight.shape for layer in self.layers]
        if {out for out, _ in shapes[:-1]} | {fan_in for _, fan_in in shapes[1:]} != {self.width}:
            raise InputError(f"the network has weights of shapes {', '.join(map(str, shapes))}: hidden layers must have one width")

    @property
    def dims(self) -> int:
        """Coordinates of a point."""
        return int(self.layers[0].weight.shape[1])

    @property
    def width(self) -> int:
        """Outputs of every hidden layer."""
        return int(self.layers[0].weight.shape[0])

    @property
    def hidden(self) -> int:
        """How many hidden layers there are."""
        return len(self.layers) - 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates at a point."""
        return sum(layer.weight.size for layer in self.layers)

    @property
    def channels(self) -> int:
        """Samples of a point."""
        return int(self.layers[-1].weight.shape[0])


def evaluate(network: IntegerNetwork, coordinates: Integers, shifts: Integers | None, levels: int, *, max_bytes: int = 2**28) -> Integers:
    """Reconstruct samples: the network at every point, once for each row of shifts.

    Args:
        network: of any origin; constructing it has proved that nothing here overflows.
        coordinates: (N, dims) within [-1, 1], in units of 2**-ACTIVATION_BITS.
        shifts: (P, hidden layers, width) to add before the sines (thesis, eq. 5.4), in turns of 2**-(fraction + ACTIVATION_BITS) of
            their layer, below `OFFSET_LIMIT`; None: none, and P = 1.
        levels: of the samples, 1 to 65536: an output of 0 is level 0, an output of 1 the last, halves round up.
        max_bytes: of working memory beside arguments and result; results do not depend on it.

    Returns:
        (P, N, channels) levels in [0, `levels`).

    Raises:
        InputError: an argument does not fit the network, or is outside the bounds within which inference is exact.
    """
    import torch

    if shifts is None:
        shifts = np.zeros((1, network.hidden, network.width), np.int64)
    _check_arguments(network, coordinates, shifts, levels)
    weights = [torch.from_numpy(layer.weight.T.astype(np.float64)) for layer in network.layers]
    table = torch.from_numpy(sine_table().astype(np.float64))
    result = np.empty((len(shifts), len(coordinates), network.channels), np.int64)
    rows = min(max_bytes, _ROUND_BYTES) // (32 * max(network.width, network.channels))
    for points, rounds in _rounds(len(coordinates), len(shifts), max(rows, 1)):
        # What coordinates alone decide is the same for all patches.
        first = torch.from_numpy(coordinates[points].astype(np.float64)) @ weights[0]
        for patches in rounds:
            result[patches, points] = _reconstruct(network, weights, table, first, shifts[patches], levels).numpy()
    return result


def _reconstruct(
    network: IntegerNetwork, weights: list[torch.Tensor], table: torch.Tensor, first: torch.Tensor, shifts: Integers, levels: int
) -> torch.Tensor:
    """Levels (P, N, channels) at the points of `first` (N, width), under `shifts` (P, hidden layers, width)."""
    import torch

    *hidden, output = network.layers
    sums = first.repeat(len(shifts), 1, 1)
    for index, layer in enumerate(hidden):
        sums = _activated(sums, layer, shifts[:, index, None], table) @ weights[index + 1]
    return _levels(sums.add_(torch.from_numpy(output.bias.astype(np.float64))), output.fraction, levels)


def _activated(sums: torch.Tensor, layer: IntegerLayer, shifts: Integers, table: torch.Tensor) -> torch.Tensor:
    """Sines of `sums` (..., width), which are overwritten, with the layer's bias and `shifts` (..., width) added."""
    import torch

    drop = layer.fraction + ACTIVATION_BITS - PHASE_BITS
    offsets = shifts + layer.bias + (_ORIGIN + (1 << drop - 1))
    phases = sums.add_(torch.from_numpy(offsets.astype(np.float64))).view(torch.int64)
    phases.bitwise_right_shift_(drop).bitwise_and_(2**PHASE_BITS - 1)
    return table.index_select(0, phases.view(-1)).view(sums.shape)


def _levels(outputs: torch.Tensor, fraction: int, levels: int) -> torch.Tensor:
    """Levels for outputs, which are overwritten, in units of 2**-(fraction + ACTIVATION_BITS)."""
    import torch

    drop = fraction + ACTIVATION_BITS
    # Clipped before they are scaled, outputs stay within 62 bits.
    return outputs.clamp_(0, 1 << drop).to(torch.int64).mul_(levels - 1).add_(1 << drop - 1).bitwise_right_shift_(drop)


def evaluate_outputs(network: IntegerNetwork, coordinates: Integers, outputs: Integers, levels: int) -> Integers:
    """Reconstruct samples where each patch has an output layer of its own: what is before it takes coordinates alone, and is evaluated once.

    Args:
        network: its hidden layers are those of all patches.
        coordinates, levels: as in `evaluate`.
        outputs: (P, channels, width + 1) weights, and behind them the bias, in the units and within the bounds of the network's output layer.

    Returns:
        (P, N, channels) levels in [0, `levels`).

    Raises:
        InputError: as in `evaluate`.
    """
    import torch

    _check_points(network, coordinates, levels)
    if outputs.ndim != 3 or outputs.shape[1:] != (network.channels, network.width + 1):
        raise InputError(f"the network takes {network.channels} x {network.width} weights and biases a patch, and gets them in {outputs.shape}")
    _check_magnitude(outputs[..., :-1], WEIGHT_LIMIT, "weight")
    _check_magnitude(outputs[..., -1], OFFSET_LIMIT, "bias")
    table, fraction = torch.from_numpy(sine_table().astype(np.float64)), network.layers[-1].fraction
    rows = torch.from_numpy(outputs.reshape(-1, network.width + 1).astype(np.float64))
    weights = [torch.from_numpy(layer.weight.T.astype(np.float64)) for layer in network.layers[:-1]]
    result = np.empty((len(outputs), len(coordinates), network.channels), np.int64)
    at_once = max(_ROUND_BYTES // (16 * max(network.width, len(rows))), 1)
    for begin in range(0, len(coordinates), at_once):
        points = slice(begin, begin + at_once)
        values = torch.from_numpy(coordinates[points].astype(np.float64))
        for layer, weight in zip(network.layers[:-1], weights, strict=True):
            values = _activated(values @ weight, layer, np.zeros((), np.int64), table)
        found = _levels(torch.addmm(rows[:, -1], values, rows[:, :-1].T), fraction, levels)
        result[:, points] = found.view(len(values), len(outputs), network.channels).transpose(0, 1).numpy()
    return result


def _rounds(points: int, patches: int, rows: int) -> Iterator[tuple[slice, list[slice]]]:
    """Cut (patches, points) into blocks of at most `rows` together: slices of points, each with its slices of patches."""
    block = max(min(points, rows), 1)
    step = rows // block
    for start in range(0, points, block):
        yield slice(start, start + block), [slice(first, first + step) for first in range(0, patches, step)]


def _check_arguments(network: IntegerNetwork, coordinates: Integers, shifts: Integers, levels: int) -> None:
    _check_points(network, coordinates, levels)
    if shifts.ndim != 3 or shifts.shape[1:] != (network.hidden, network.width):
        raise InputError(f"the network takes {network.hidden} x {network.width} shifts a patch, and gets them in the shape {shifts.shape}")
    _check_magnitude(shifts, OFFSET_LIMIT, "shift")


def _check_points(network: IntegerNetwork, coordinates: Integers, levels: int) -> None:
    if coordinates.ndim != 2 or coordinates.shape[1] != network.dims:
        raise InputError(f"the network takes {network.dims} coordinates a point, and gets them in the shape {coordinates.shape}")
    if not 1 <= levels <= 2**16:
        raise InputError(f"samples of {levels} levels cannot be reconstructed: there must be 1 to {2**16}")
    _check_magnitude(coordinates, 2**ACTIVATION_BITS + 1, "coordinate")


def _check_magnitude(values: Integers, limit: int, what: str) -> None:
    for extreme in (values.min(initial=0), values.max(initial=0)):
        if not -limit < extreme < limit:
            raise InputError(f"a {what} of {extreme} is out of range: exact decoding needs magnitudes below {limit}")
