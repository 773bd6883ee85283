"""Base networks as files: the integers that decoding uses, with the quantizers and frequency tables of their latents.

A base network is a safetensors file. Streams name it by the SHA-256 of its bytes, so that a stream can never meet another one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from compresskit.codec.config import HALF_BITS
from compresskit.codec.entropy import pack_table, unpack_table
from compresskit.codec.exact import ACTIVATION_BITS, MAX_FRACTION, OFFSET_LIMIT, OUTPUT, SHIFTS, WEIGHT_LIMIT, IntegerLayer, IntegerNetwork
from compresskit.codec.latentprior import LIMIT, MAX_AXES, LatentPrior, read_prior
from compresskit.codec.quantize import LATENT_FRACTION, UniformQuantizer
from compresskit.errors import InputError

FORMATS = {"compresskit.base/1": SHIFTS, "compresskit.base/2": OUTPUT}
"""What latents modulate, by the format of the file."""

SYMBOL_BITS = range(3, 9)
"""Of symbols, under base networks with tables."""

METADATA = "compresskit"
GEOMETRIES = ("grid", "sphere")
MAX_BYTES = 64 * 2**20
MAX_LATENTS = 4096
SPHERE_DIMS = 3
_ENCODER_SCALE = 2**12  # of what is stored: float16 has too few bits for numbers below 2**-14
_MAPPING_LIMIT = 2**24
_LATENT_LIMIT = 2**26  # times the mapping's limit and MAX_LATENTS: below 2**62
_HALF = 13  # bits of a latent: times the mapping's limit and MAX_LATENTS: below 2**53

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Base:
    """A base network, ready to decode with.

    Attributes:
        name: for people.
        geometry: "grid" (coordinates of a patch, -1 to 1) or "sphere" (points on the globe).
        edges: of the patches that it was trained on.
        omega: of the SIREN, for encoding.
        network: without modulations.
        mapping: (modulations, latents), in units of 2**-`fraction`: from latents to weights and bias of the output layer, channel by channel, or
            to shifts in turns, layer by layer.
        fraction: see `mapping`.
        centers: (latents,) the mean latent, in units of 2**-LATENT_FRACTION.
        spread: (latents,) the standard deviation of typical latents, in the same unit, at least 1.
        steps: width of a bin, in the same unit, for each number of bits: HALF_BITS, or SYMBOL_BITS where there are tables.
        prior: of the latents, where they are of the output layer; None where they are of shifts.
        tables: where they are of shifts: (latents, 2**bits) frequencies, for each number of bits.
        encoder, offset: likewise: (samples of a training patch, latents) and (latents,), float32: where encoding begins to look for latents.
        stored: the file that it was read from, b"" for a new one. Another version of zlib or safetensors would write another.

    Raises:
        InputError: parts do not fit each other, or are out of the bounds within which decoding is exact.
    """

    name: str
    geometry: str
    edges: tuple[int, ...]
    omega: float
    network: IntegerNetwork
    mapping: Integers
    fraction: int
    centers: Integers
    spread: Integers
    steps: Mapping[float, int]
    prior: LatentPrior | None = None
    tables: Mapping[int, NDArray[np.uint32]] = field(default_factory=dict)
    encoder: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    offset: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    stored: bytes = b""

    def __post_init__(self) -> None:
        shifts, outputs = self.network.hidden * self.network.width, self.channels * (self.network.width + 1)
        modulations = outputs if self.part == OUTPUT else shifts
        if self.mapping.ndim != 2 or self.mapping.shape[0] != modulations or not 1 <= self.latents <= MAX_LATENTS:
            raise InputError(f"base network {self.name}: its mapping has shape {self.mapping.shape}, expected ({modulations}, 1 to {MAX_LATENTS})")
        if self.geometry not in GEOMETRIES or not 0 < self.omega < 1e6 or not 0 <= self.fraction <= MAX_FRACTION:
            raise InputError(f"base network {self.name}: its geometry, omega or fraction is out of range")
        if self.network.dims > MAX_AXES or (self.geometry == "sphere" and self.network.dims != SPHERE_DIMS):
            raise InputError(f"base network {self.name}: it takes {self.network.dims} coordinates a point, which no {self.geometry} has")
        if self.centers.shape != (self.latents,) or not (_within(self.mapping, _MAPPING_LIMIT) and _within(self.centers, _LATENT_LIMIT // 2)):
            raise InputError(f"base network {self.name}: its mapping or its mean latent is out of range")
        if self.spread.shape != (self.latents,) or not 1 <= self.spread.min() <= self.spread.max() < _LATENT_LIMIT:
            raise InputError(f"base network {self.name}: the spread of its latents is out of range")
        if self.prior is not None:
            self._check_prior(self.prior)
        else:
            self._check_tables()

    def _check_prior(self, prior: LatentPrior) -> None:
        if prior.flat.shape != (self.channels + 1, self.latents) or not prior.fits(self.axes, self.latents):
            raise InputError(f"base network {self.name}: what it expects of its latents does not fit them")
        if not all(1 <= self.steps[bits] < LIMIT for bits in HALF_BITS):
            raise InputError(f"base network {self.name}: a step of its latents is out of range")

    def _check_tables(self) -> None:
        if self.encoder.shape != (math.prod(self.edges) * self.channels, self.latents) or self.offset.shape != (self.latents,):
            raise InputError(f"base network {self.name}: its encoder has shape {self.encoder.shape}, which its edges and channels do not make")
        for bits in SYMBOL_BITS:
            if not 1 <= self.steps[bits] < _LATENT_LIMIT >> (bits + 1) or self.tables[bits].shape != (self.latents, 1 << bits):
                raise InputError(f"base network {self.name}: its quantizer of {bits} bits is out of range")

    @property
    def part(self) -> str:
        """What latents modulate: OUTPUT or SHIFTS."""
        return SHIFTS if self.prior is None else OUTPUT

    @property
    def latents(self) -> int:
        """Length of a latent vector."""
        return int(self.mapping.shape[1])

    @property
    def channels(self) -> int:
        """Samples of a point."""
        return self.network.channels

    @property
    def axes(self) -> int:
        """Spatial axes of the signals that it serves."""
        return 2 if self.geometry == "sphere" else self.network.dims

    @cached_property
    def file(self) -> bytes:
        """Its file."""
        return self.stored or save_base(self)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of its file."""
        return hashlib.sha256(self.file).digest()

    def quantizer(self, bits: int) -> UniformQuantizer:
        """Bins of one width for all latents, 2**bits of them: the mean latent is the centre of the bin in the middle."""
        step = np.full(self.latents, self.steps[bits], np.int64)
        return UniformQuantizer(self.centers - step * (1 << bits - 1) - step // 2, step, bits)

    def shifts(self, latents: Integers) -> Integers:
        """Shifts (P, hidden layers, width), in the units of `evaluate`, for `latents` (P, L) in units of 2**-LATENT_FRACTION."""
        sums = self._modulations(latents).reshape(len(latents), self.network.hidden, self.network.width)
        layers = [
            _rescaled(sums[:, index], self.fraction + LATENT_FRACTION - layer.fraction - ACTIVATION_BITS)
            for index, layer in enumerate(self.network.layers[:-1])
        ]
        return np.clip(np.stack(layers, axis=1), 1 - OFFSET_LIMIT, OFFSET_LIMIT - 1)

    def outputs(self, latents: Integers) -> Integers:
        """Output layers (P, channels, width + 1), weights and then bias, in the units of `evaluate_outputs`, for `latents` (P, L) likewise."""
        sums = self._modulations(latents).reshape(len(latents), self.channels, self.network.width + 1)
        layer, drop = self.network.layers[-1], self.fraction + LATENT_FRACTION - self.network.layers[-1].fraction
        weights = np.clip(_rescaled(sums[..., :-1], drop) + layer.weight, 1 - WEIGHT_LIMIT, WEIGHT_LIMIT - 1)
        biases = np.clip(_rescaled(sums[..., -1], drop - ACTIVATION_BITS) + layer.bias, 1 - OFFSET_LIMIT, OFFSET_LIMIT - 1)
        return np.concatenate([weights, biases[..., None]], axis=2)

    def _modulations(self, latents: Integers) -> Integers:
        """The product of mapping and `latents` (P, L), exactly: of halves of the latents, each exact in float64, as 64-bit integers have no BLAS."""
        import torch

        mapping = torch.from_numpy(self.mapping.T.astype(np.float64))
        halves = (latents >> _HALF, latents & (1 << _HALF) - 1)
        high, low = ((torch.from_numpy(half.astype(np.float64)) @ mapping).numpy().astype(np.int64) for half in halves)
        return (high << _HALF) + low


def _within(values: Integers, limit: int) -> bool:
    """Whether all magnitudes are below `limit`; that of the least int64 is no int64."""
    return bool(-limit < values.min() <= values.max() < limit)


def _rescaled(values: Integers, drop: int) -> Integers:
    """Values without their `drop` lowest bits, rounded half up; with more of them where it is negative."""
    return (values + (1 << drop - 1)) >> drop if drop > 0 else values << -drop


def save_base(base: Base) -> bytes:
    """The file of `base`: the same bytes for the same base."""
    tensors: dict[str, NDArray[np.generic]] = {"mapping": base.mapping.astype(np.int32), "centers": base.centers, "spread": base.spread}
    for index, layer in enumerate(base.network.layers):
        tensors |= {f"layers.{index}.weight": layer.weight.astype(np.int32), f"layers.{index}.bias": layer.bias}
    if base.prior is not None:
        tensors |= base.prior.tensors()
    else:
        tensors |= {"encoder": (base.encoder * _ENCODER_SCALE).astype(np.float16), "offset": base.offset}
        tensors |= {f"tables.{bits}": np.frombuffer(pack_table(base.tables[bits]), np.uint8) for bits in SYMBOL_BITS}
    about = {
        "format": next(format for format, part in FORMATS.items() if part == base.part),
        "name": base.name,
        "geometry": base.geometry,
        "edges": base.edges,
        "omega": base.omega,
        "fraction": base.fraction,
        "fractions": [layer.fraction for layer in base.network.layers],
        "steps": [base.steps[bits] for bits in (HALF_BITS if base.part == OUTPUT else SYMBOL_BITS)],
    }
    # One entry: safetensors writes several in any order; and it writes arrays as they lie in memory, whatever their order there.
    return save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata={METADATA: json.dumps(about)})


def load_base(data: bytes, what: str) -> Base:
    """Read a base network.

    Args:
        data: the whole file.
        what: the file's name, for messages.

    Raises:
        InputError: it is no base network, or a damaged one.
    """
    if len(data) > MAX_BYTES:
        raise InputError(f"{what}: {len(data)} bytes are too many for a base network, {MAX_BYTES} at most")
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size]) if size <= len(data) else {}
        about = json.loads(header["__metadata__"][METADATA])
        if about["format"] not in FORMATS:
            raise InputError(f"its format is none of {', '.join(FORMATS)}")
        return replace(_assembled(load(data), about), stored=data)
    except InputError as error:
        raise InputError(f"{what}: is no base network, or a damaged one ({error})") from None
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{what}: is no base network, or a damaged one ({type(error).__name__})") from None


def _assembled(tensors: Mapping[str, NDArray[np.generic]], about: Mapping[str, object]) -> Base:
    fractions, steps, edges, part = about["fractions"], about["steps"], about["edges"], FORMATS[str(about["format"])]
    numbers: Sequence[float] = HALF_BITS if part == OUTPUT else SYMBOL_BITS
    if not (isinstance(fractions, list) and isinstance(steps, list) and isinstance(edges, list) and len(steps) == len(numbers)):
        raise ValueError("lists are missing")
    layers = tuple(
        IntegerLayer(_tensor(tensors, f"layers.{index}.weight", np.int32), _tensor(tensors, f"layers.{index}.bias", np.int64), int(fraction))
        for index, fraction in enumerate(fractions)
    )
    mapping = _tensor(tensors, "mapping", np.int32)
    # Before tables are inflated: a tensor without rows may claim any number of columns.
    if mapping.ndim != 2 or not mapping.size or mapping.shape[1] > MAX_LATENTS:
        raise ValueError("a mapping of an impossible shape")
    base = partial(
        Base,
        str(about["name"]),
        str(about["geometry"]),
        tuple(int(edge) for edge in edges),
        float(about["omega"]),  # type: ignore[arg-type]
        IntegerNetwork(layers),
        mapping,
        int(about["fraction"]),  # type: ignore[call-overload]
        _tensor(tensors, "centers", np.int64),
        _tensor(tensors, "spread", np.int64),
        {bits: int(step) for bits, step in zip(numbers, steps, strict=True)},
    )
    if part == OUTPUT:
        return base(read_prior(tensors))
    tables = {bits: unpack_table(tensors[f"tables.{bits}"].tobytes(), (mapping.shape[1], 1 << bits)) for bits in SYMBOL_BITS}
    encoder = tensors["encoder"].astype(np.float32) / np.float32(_ENCODER_SCALE)
    return base(None, tables, encoder, tensors["offset"].astype(np.float32))


def _tensor(tensors: Mapping[str, NDArray[np.generic]], name: str, dtype: type[np.signedinteger]) -> Integers:
    if tensors[name].dtype != dtype:
        raise TypeError(f"{name} is of {tensors[name].dtype}")
    return tensors[name].astype(np.int64)
