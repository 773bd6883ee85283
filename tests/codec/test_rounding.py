"""Rounding for rate and distortion: cheaper than the nearest by its own measure, and by the bytes that come of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compresskit.codec.base import Base
from compresskit.codec.coinpp import fit_signal, layout, signal_errors
from compresskit.codec.contexts import SCALE_BITS
from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.encoder import Work, encode_coinpp
from compresskit.codec.entropy import encode_columns, normalize
from compresskit.codec.modalities import read
from compresskit.codec.neighbours import places
from compresskit.codec.prior import encode_latents
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.codec.refine import ChunkCodes, Fitted, round_signals
from compresskit.codec.rounding import PRICE, Code, ContextCode, TableCode, nearest
from compresskit.codec.settings import EFFORT_STEPS, Effort, Setting
from compresskit.codec.stream import CONTEXTS

LIMIT, LATENTS, PATCHES = 16, 24, 60
TYPICAL = np.maximum((5 << SCALE_BITS) // (1 + np.arange(LATENTS)), 1)


def targets() -> np.ndarray:
    """Latents in bins, smaller ones towards the end."""
    return np.random.default_rng(0).laplace(0, 4 / (1 + np.arange(LATENTS)), (PATCHES, LATENTS))


def codes() -> list[Code]:
    counts = np.stack([np.bincount(column, minlength=2 * LIMIT) for column in (nearest(targets(), LIMIT) + LIMIT).T])
    lying = places([0, PATCHES], [(1, 1, 6, 10)], 0, PATCHES)
    return [ContextCode(lying, TYPICAL, LIMIT), TableCode(normalize(counts * 8 + 1))]


def size(code: Code, values: np.ndarray) -> int:
    """Bytes of `values`."""
    if isinstance(code, ContextCode):
        return len(encode_latents(values, code.places, code.typical, code.limit))
    assert isinstance(code, TableCode)
    return len(encode_columns(values + LIMIT, code.tables))


@pytest.mark.parametrize("code", codes(), ids=["contexts", "tables"])
def test_a_choice_costs_less_than_the_nearest(code: Code) -> None:
    wanted, near = targets(), nearest(targets(), LIMIT)
    chosen = code.seeing(near).choose(wanted)
    assert -LIMIT <= chosen.min() <= chosen.max() < LIMIT
    assert size(code, chosen) < 0.9 * size(code, near)

    def cost(values: np.ndarray) -> float:
        return float(np.square(wanted - values).sum()) + PRICE * 8 * size(code, values)

    assert cost(chosen) < cost(near)


@pytest.mark.parametrize("code", codes(), ids=["contexts", "tables"])
def test_bits_are_about_those_of_the_code(code: Code) -> None:
    values = nearest(targets(), LIMIT)
    assert code.seeing(values).bits.shape == (PATCHES,)
    assert float(code.seeing(values).bits.sum()) == pytest.approx(8 * size(code, values), rel=0.1)


@pytest.mark.parametrize("code", codes()[1:], ids=["tables"])
def test_chunks_are_chosen_apart(code: Code) -> None:
    wanted = targets()
    both, one = (each.seeing(nearest(wanted, LIMIT)) for each in (ChunkCodes([(20, code), (40, code)]), code))
    np.testing.assert_array_equal(both.choose(wanted), one.choose(wanted))
    np.testing.assert_array_equal(both.bits, one.bits)


def _fitted(base: Base) -> Fitted:
    y, x = np.indices((40, 44))
    levels = np.rint(127 + 60 * np.sin(x / 5) + 50 * np.sin((y + x) / 3)).astype(np.int64)[None, ..., None]
    levels[:, :8, :8] = 9
    lay = layout(levels.shape, 256, (8,))
    return Fitted(levels, lay, fit_signal(base, levels, lay, 4))


def _mean_error(base: Base, bits: int, fitted: Fitted, symbols: np.ndarray) -> float:
    made = np.ldexp(base.quantizer(bits).latents(symbols).astype(np.float32), -LATENT_FRACTION).astype(np.float32)
    return float(signal_errors(base, made, fitted.levels, fitted.lay)[0].mean())


def test_the_least_effort_is_the_nearest_bin(make_base: Callable[[int, int], Base]) -> None:
    base = make_base(2, 1)
    fitted = _fitted(base)
    (symbols,) = round_signals(base, 5, [fitted], EFFORT_STEPS[0], contexts=True)
    varied = fitted.latents.any(axis=1)
    np.testing.assert_array_equal(symbols[varied], base.quantizer(5).symbols(fitted.latents)[varied])


def test_refinement_makes_up_for_rounding(make_base: Callable[[int, int], Base]) -> None:
    base = make_base(2, 1)
    fitted = _fitted(base)
    rounded, refined = (round_signals(base, 4, [fitted], Effort(2, refinements), contexts=True)[0] for refinements in (0, 6))
    assert _mean_error(base, 4, fitted, refined) < _mean_error(base, 4, fitted, rounded)


def test_errors_are_those_of_the_network(make_base: Callable[[int, int], Base]) -> None:
    base = make_base(2, 1)
    fitted = _fitted(base)
    losses, gradients = signal_errors(base, fitted.latents, fitted.levels, fitted.lay)
    assert losses[0] == 0
    assert not gradients[0].any()
    step, direction = 1e-3, np.random.default_rng(0).normal(size=base.latents).astype(np.float32)
    beyond, before = (signal_errors(base, fitted.latents + sign * step * direction, fitted.levels, fitted.lay)[0] for sign in (1, -1))
    np.testing.assert_allclose((beyond - before)[1:] / (4 * step), (gradients @ direction)[1:], atol=2e-3 * float(np.abs(gradients).max()) + 2e-4)


@pytest.mark.parametrize("contexts", [False, True])
def test_streams_of_every_effort_decode_to_what_was_measured(
    make_base: Callable[[int, int], Base], npy_bytes: Callable[[np.ndarray], bytes], *, contexts: bool
) -> None:
    base = make_base(2, 1)
    y, x = np.indices((120, 120))
    picture = np.rint(128 + (20 + y / 2) * np.sin((x + y) / 3) + 20 * np.sin(x / 9)).astype(np.uint8)
    works = [Work([read(npy_bytes(picture), "x.npy")], base, 3, effort=effort, contexts=contexts) for effort in (1, 2, 5)]
    streams = [encode_coinpp(work, Setting((8,), 5)) for work in works]
    for coded in streams:
        assert coded.stream.version == (CONTEXTS if contexts else 1)
        (signal,) = unpacked_signals(coded.data, base)
        np.testing.assert_array_equal(signal.values, coded.decoded[0])
    assert max(len(coded.data) for coded in streams[1:]) < len(streams[0].data)
