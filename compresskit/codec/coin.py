"""COIN: a SIREN overfitted to one signal, whose quantized weights are the code (thesis, sections 5.1 and 5.3.1, appendix C.2).

samples --fit--> Siren --quantize--> CoinSymbols --network--> IntegerNetwork --evaluate--> levels
                 float               integers from here on, so that the encoder measures what the decoder makes
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from compresskit.codec.exact import MAX_WIDTH, IntegerLayer, IntegerNetwork
from compresskit.codec.quantize import MAX_BITS, coin_sigmas
from compresskit.codec.siren import Siren, forward, init, to_integer
from compresskit.codec.sirengrad import TrainedSiren
from compresskit.errors import GuardError, InputError, TargetError, UsageError
from compresskit.progress import SILENT, Progress

# The deepest network that pays, for up to so many parameters: between those of appendix C.2, in geometric means.
_DEPTHS = ((1075, 2), (5403, 5), (21108, 10))
_DEEPEST = 13
# Of the weights that are quantized: fine against a step of 16 bits, and bin centres stay below `WEIGHT_LIMIT`.
_GRID_BITS = 22
_CHECK_EVERY = 50
_CHECKED = 2**15  # points of a signal on which the best network is chosen
_TINY = 1e-12


@dataclass(frozen=True)
class CoinConfig:
    """How a signal is fitted.

    Attributes:
        width: of each hidden layer.
        depth: hidden layers.
        steps: each over `points` points.
        omega: factor of every sine's argument.
        lr: the learning rate of the first step; it falls to 0 along a cosine. On a picture half as much loses 0.3 dB, twice as much 0.5 dB.
        points: of a step; where the signal has more, each step goes on where the last one stopped.
        batch: points of one update by Adam. In the same time, 1024 reach 0.4 dB more than 4096 do on a picture, and 1 dB more than 2**14.
    """

    width: int
    depth: int
    steps: int
    omega: float = 30.0
    lr: float = 5e-4
    points: int = 2**14
    batch: int = 2**10

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.steps, self.points, self.batch) < 1 or self.omega <= 0 or self.lr <= 0:
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


def learning_rate(width: int) -> float:
    """For `CoinConfig`: of networks wider than 27, the less the wider. On pictures, half of the usual is 0.5 to 0.8 dB better at width 39."""
    return CoinConfig.lr * min(1.0, 27 / width)


def fit(coordinates: Tensor, samples: Tensor, config: CoinConfig, generator: torch.Generator, progress: Progress = SILENT) -> Siren:
    """Overfit a SIREN to a signal (thesis, eq. 5.1).

    Args:
        coordinates: (N, dims) float32 in [-1, 1].
        samples: (N, channels) float32 in [0, 1].
        config: the network and its training.
        generator: of the initial weights and of the points drawn.
        progress: hears of every step, with the PSNR of the best network so far.

    Returns:
        The best network that was met.

    Raises:
        GuardError: the fit diverged.
    """
    count, batch = len(coordinates), min(len(coordinates), config.batch)
    trained = TrainedSiren(init(coordinates.shape[1], config.width, config.depth, samples.shape[1], config.omega, generator), batch)
    groups: list[dict[str, Any]] = [{"params": [trained.hidden], "lr": config.lr * config.omega}, {"params": [trained.output]}]
    optimizer = torch.optim.Adam(groups, lr=config.lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    # Gathered once: to fetch points from all over a large signal takes as long as half of what is done with them.
    turns = itertools.cycle([(coordinates[rows].T.contiguous(), samples[rows].T.contiguous()) for rows in _batches(count, batch, generator)])
    checked = _batches(count, min(count, _CHECKED), generator)[0]
    best, kept, psnr = math.inf, trained.siren(), 0.0
    progress.stage("fit", config.steps)
    for step in range(1, config.steps + 1):
        for x, y in itertools.islice(turns, max(1, min(count, config.points) // batch)):
            trained.gradient(x, y)
            optimizer.step()
        schedule.step()
        if step % _CHECK_EVERY == 0 or step == config.steps:
            siren = trained.siren()
            error = F.mse_loss(forward(siren, coordinates[checked]).clamp(0, 1), samples[checked]).item()
            if not math.isfinite(error):
                raise GuardError(f"the fit diverged within {step} steps: lower the learning rate")
            if error < best:
                best, kept, psnr = error, siren, -10 * math.log10(max(error, _TINY))
        progress.advance(psnr=psnr)
    return kept


def quantize(siren: Siren, bits: int) -> CoinSymbols:
    """Split each tensor's range, `coin_sigmas(bits)` standard deviations about its mean, into 2**`bits` bins (thesis, appendix C.2).

    Where the values end within those deviations, so does the range: at 8 bits that gains 4 dB. Where few lie far beyond them, and bins are
    fine enough, the range goes on to the last.

    Raises:
        GuardError: a parameter is not finite, or far too large.
    """
    layers = to_integer(siren, _GRID_BITS).layers
    tensors = [tensor.reshape(-1) for layer in layers for tensor in (layer.weight, layer.bias)]
    lows, steps = zip(*(_range(tensor, bits) for tensor in tensors), strict=True)
    symbols = tuple(_binned(tensor, low, step, bits).astype(np.int32) for tensor, low, step in zip(tensors, lows, steps, strict=True))
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


def _batches(count: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """All rows of a signal, `size` of them at a time: one of each of as many equal stretches, so that no part goes unseen for long."""
    number = -(-count // size)
    starts, shifts = torch.arange(size) * number, torch.randint(number, (size,), generator=generator)
    return [(starts + (shifts + turn) % number) * count // (size * number) for turn in torch.randperm(number, generator=generator)]


def _range(tensor: NDArray[np.int64], bits: int) -> tuple[int, int]:
    """Low end and step of bins over the tensor's deviations from its mean, or over all its values: whichever is nearer to them in the mean."""
    mean, reach = float(tensor.mean()), coin_sigmas(bits) * float(tensor.std())
    least, greatest = int(tensor.min()), int(tensor.max())
    ranges = [(max(math.floor(mean - reach), least), min(math.floor(mean + reach), greatest)), (least, greatest)]
    bins = [(low, max(-((low - high - 1) >> bits), 1)) for low, high in ranges]
    return min(bins, key=lambda chosen: _error(tensor, chosen[0], chosen[1], bits))


def _binned(tensor: NDArray[np.int64], low: int, step: int, bits: int) -> NDArray[np.int64]:
    return np.clip((tensor - low) // step, 0, 2**bits - 1)


def _error(tensor: NDArray[np.int64], low: int, step: int, bits: int) -> float:
    """Sum of squares of what is lost in bins of width `step`."""
    return float(np.square((low + _binned(tensor, low, step, bits) * step + step // 2 - tensor).astype(np.float64)).sum())
