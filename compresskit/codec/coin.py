"""COIN: a SIREN overfitted to one signal, whose quantized weights are the code (thesis, sections 5.1 and 5.3.1, appendix C.2).

samples --fit--> Siren --quantize--> CoinSymbols --network--> IntegerNetwork --evaluate--> levels
                 float               integers from here on, so that the encoder measures what the decoder makes
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from compresskit.codec.exact import MAX_WIDTH, IntegerLayer, IntegerNetwork
from compresskit.codec.quantize import MAX_BITS, coin_sigmas
from compresskit.codec.siren import Siren, forward, init, to_integer
from compresskit.errors import GuardError, InputError, TargetError, UsageError
from compresskit.progress import SILENT, Progress

# The deepest network that pays, for up to so many parameters: between those of appendix C.2, in geometric means.
_DEPTHS = ((1075, 2), (5403, 5), (21108, 10))
_DEEPEST = 13
# Of the weights that are quantized: fine against a step of 16 bits, and bin centres stay below `WEIGHT_LIMIT`.
_GRID_BITS = 22
_CHECK_EVERY = 50
_TINY = 1e-12


@dataclass(frozen=True)
class CoinConfig:
    """How a signal is fitted.

    Attributes:
        width: of each hidden layer.
        depth: hidden layers.
        steps: of Adam.
        omega: factor of every sine's argument.
        lr: the learning rate of the first step; it falls to 0 along a cosine. At 1e-3, 10 layers gain 0.4 dB more, and 13 learn nothing.
        points: that one step looks at; drawn anew for each where the signal has more.
    """

    width: int
    depth: int
    steps: int
    omega: float = 30.0
    lr: float = 5e-4
    points: int = 2**14

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.steps, self.points) < 1 or self.omega <= 0 or self.lr <= 0:
            raise UsageError("a COIN network needs at least 1 layer, of width 1 or more, and 1 step on 1 point, and positive omega and lr")


@dataclass(frozen=True, eq=False)
class CoinSymbols:
    """A quantized network: everything that the decoder needs beside the four sizes of its architecture.

    Symbol s of tensor t stands for the integer `lows[t]` + s `steps[t]` + `steps[t]` // 2, in the units of `IntegerLayer`.

    Attributes:
        symbols: flat, in [0, 2**bits), of each tensor: weight and bias of the first layer, of the second, ..., of the output.
        lows: where each tensor's range begins.
        steps: width of each tensor's bins, at least 1.
        fractions: of each layer.
        bits: of a symbol, 1 to 16.

    Raises:
        InputError: a value is out of range, or there are too few of one kind.
    """

    symbols: tuple[NDArray[np.int32], ...]
    lows: tuple[int, ...]
    steps: tuple[int, ...]
    fractions: tuple[int, ...]
    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= MAX_BITS:
            raise InputError(f"the network has symbols of {self.bits} bits: 1 to {MAX_BITS} are possible")
        counts = {len(self.symbols), len(self.lows), len(self.steps), 2 * len(self.fractions)}
        if len(counts) > 1:
            raise InputError("the network's tensors, ranges and layers differ in number: the file is corrupt")
        if any(tensor.size and not 0 <= tensor.min() <= tensor.max() < 2**self.bits for tensor in self.symbols):
            raise InputError(f"the network has symbols beyond {self.bits} bits: the file is corrupt")
        if any(step < 1 or abs(low) + (step << self.bits) >= 2**62 for low, step in zip(self.lows, self.steps, strict=True)):
            raise InputError("the network has a range without a positive step within 62 bits: the file is corrupt")


def tensor_shapes(dims: int, width: int, depth: int, channels: int) -> list[tuple[int, ...]]:
    """Shapes of the tensors in the order of `CoinSymbols`."""
    sizes = [dims, *[width] * depth, channels]
    return [shape for fan_in, out in itertools.pairwise(sizes) for shape in ((out, fan_in), (out,))]


def parameter_count(dims: int, width: int, depth: int, channels: int) -> int:
    """Weights and biases of a network."""
    return sum(math.prod(shape) for shape in tensor_shapes(dims, width, depth, channels))


def architecture(budget_bits: float, dims: int, channels: int, bits: int) -> tuple[int, int]:
    """The network to fit for a rate: the thesis's depth for its size (appendix C.2), and the greatest width that fits.

    Args:
        budget_bits: for all parameters, before entropy coding.
        dims: coordinates of a point.
        channels: samples of a point.
        bits: of a parameter.

    Returns:
        Width and depth.

    Raises:
        TargetError: the budget is too small for any network.
    """
    budget = budget_bits / bits
    depth = next((depth for most, depth in _DEPTHS if budget <= most), _DEEPEST)
    width = bisect_right(range(1, MAX_WIDTH + 1), budget, key=lambda width: parameter_count(dims, width, depth, channels))
    if not width:
        least = bits * parameter_count(dims, 1, depth, channels)
        raise TargetError(f"no network fits in {budget_bits:.0f} bits: the smallest takes {least}; raise the rate")
    return width, depth


def fit(coordinates: Tensor, samples: Tensor, config: CoinConfig, generator: torch.Generator, progress: Progress = SILENT) -> Siren:
    """Overfit a SIREN to a signal (thesis, eq. 5.1).

    Args:
        coordinates: (N, dims) float32 in [-1, 1].
        samples: (N, channels) float32 in [0, 1], on the same device.
        config: the network and its training.
        generator: of the initial weights and of the points drawn, on the CPU.
        progress: hears of every step, with the PSNR of the best network so far.

    Returns:
        The best network that was met.

    Raises:
        GuardError: the fit diverged.
    """
    siren = _trained(init(coordinates.shape[1], config.width, config.depth, samples.shape[1], config.omega, generator), coordinates.device)
    optimizer = torch.optim.Adam([*siren.weights, *siren.biases], lr=config.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    best, kept, psnr = math.inf, siren, 0.0
    progress.stage("fit", config.steps)
    for step in range(1, config.steps + 1):
        rows = _rows(len(coordinates), config.points, generator)
        optimizer.zero_grad()
        F.mse_loss(forward(siren, coordinates[rows]), samples[rows]).backward()
        optimizer.step()
        schedule.step()
        if step % _CHECK_EVERY == 0 or step == config.steps:
            error = _error(siren, coordinates, samples, config.points)
            if not math.isfinite(error):
                raise GuardError(f"the fit diverged within {step} steps: lower the learning rate")
            if error < best:
                best, kept, psnr = error, _detached(siren), -10 * math.log10(max(error, _TINY))
        progress.advance(psnr=psnr)
    return kept


def quantize(siren: Siren, bits: int) -> CoinSymbols:
    """Split each tensor's range, `coin_sigmas(bits)` standard deviations about its mean, into 2**`bits` bins (thesis, appendix C.2).

    Where the values end within those deviations, so does the range: at 8 bits that gains 4 dB.

    Raises:
        GuardError: a parameter is not finite, or far too large.
    """
    layers = to_integer(siren, _GRID_BITS).layers
    tensors = [tensor.reshape(-1) for layer in layers for tensor in (layer.weight, layer.bias)]
    lows, steps = zip(*(_range(tensor, bits) for tensor in tensors), strict=True)
    bins = ((tensor - low) // step for tensor, low, step in zip(tensors, lows, steps, strict=True))
    symbols = tuple(np.clip(tensor, 0, 2**bits - 1).astype(np.int32) for tensor in bins)
    return CoinSymbols(symbols, lows, steps, tuple(layer.fraction for layer in layers), bits)


def network(symbols: CoinSymbols, dims: int, width: int, depth: int, channels: int) -> IntegerNetwork:
    """The network that `symbols` stand for, by integer arithmetic alone.

    Raises:
        InputError: the symbols are not those of such a network, or of none that decodes exactly.
    """
    sizes = [len(tensor) for tensor in symbols.symbols]
    # Before shapes are made: a file may claim any depth.
    if len(sizes) != 2 * (depth + 1) or sizes != [math.prod(shape) for shape in tensor_shapes(dims, width, depth, channels)]:
        raise InputError(f"the network's symbols do not fit {depth} layers of width {width}: the file is corrupt")
    shapes = tensor_shapes(dims, width, depth, channels)
    tensors = [
        (low + flat.astype(np.int64) * step + step // 2).reshape(shape)
        for flat, low, step, shape in zip(symbols.symbols, symbols.lows, symbols.steps, shapes, strict=True)
    ]
    layers = zip(tensors[::2], tensors[1::2], symbols.fractions, strict=True)
    return IntegerNetwork(tuple(IntegerLayer(weight, bias, fraction) for weight, bias, fraction in layers))


def _trained(siren: Siren, device: torch.device) -> Siren:
    weights, biases = (tuple(tensor.to(device).requires_grad_() for tensor in part) for part in (siren.weights, siren.biases))
    return Siren(weights, biases, siren.omega)


def _detached(siren: Siren) -> Siren:
    weights, biases = (tuple(tensor.detach().clone() for tensor in part) for part in (siren.weights, siren.biases))
    return Siren(weights, biases, siren.omega)


def _rows(count: int, most: int, generator: torch.Generator) -> Tensor | slice:
    """What one step looks at: all rows, or `most` of them at random."""
    return slice(None) if count <= most else torch.randint(count, (most,), generator=generator)


def _error(siren: Siren, coordinates: Tensor, samples: Tensor, points: int) -> float:
    """The mean squared error over the whole signal, within the samples' range as decoding clips to it."""
    with torch.no_grad():
        pairs = zip(coordinates.split(points), samples.split(points), strict=True)
        total = sum(F.mse_loss(forward(siren, x).clamp(0, 1), y, reduction="sum").item() for x, y in pairs)
    return total / samples.numel()


def _range(tensor: NDArray[np.int64], bits: int) -> tuple[int, int]:
    """Low end and step of bins over the tensor's deviations from its mean, and no further than its values reach."""
    mean, reach = float(tensor.mean()), coin_sigmas(bits) * float(tensor.std())
    low = max(math.floor(mean - reach), int(tensor.min()))
    high = min(math.floor(mean + reach), int(tensor.max())) + 1
    return low, max(-((low - high) >> bits), 1)
