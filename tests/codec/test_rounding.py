"""Rounding for rate and distortion: cheaper than the nearest by its own measure, and by the bytes that come of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from compresskit.codec.base import Base
from compresskit.codec.chunks import known_of
from compresskit.codec.coinpp import fit_signal, frame_of, layout, one_colour, signal_errors
from compresskit.codec.contexts import SCALE_BITS
from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.encoder import Work, encode_coinpp
from compresskit.codec.entropy import encode_columns, normalize
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.latentscan import Known, fit_weights
from compresskit.codec.modalities import read
from compresskit.codec.neighbours import places
from compresskit.codec.prior import encode_latents
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.codec.refine import ChunkCodes, Fitted, round_signals
from compresskit.codec.rounding import PRICE, Code, ContextCode, TableCode, nearest
from compresskit.codec.roundpredicted import PredictedCode
from compresskit.codec.settings import EFFORT_STEPS, Effort, Setting
from compresskit.codec.stream import PREDICTED, VERSIONS

MakeBase = Callable[[int, int], Base]
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


def _mean_error(base: Base, fitted: Fitted, latents: np.ndarray) -> float:
    made = np.ldexp(latents.astype(np.float32), -LATENT_FRACTION).astype(np.float32)
    return float(signal_errors(base, made, fitted.levels, fitted.lay)[0].mean())


def test_the_least_effort_is_the_nearest_bin(make_former: MakeBase) -> None:
    base = make_former(2, 1)
    fitted = _fitted(base)
    (latents,), weights = round_signals(base, 5, [fitted], EFFORT_STEPS[0], contexts=True)
    varied, quantizer = fitted.latents.any(axis=1), base.quantizer(5)
    np.testing.assert_array_equal(latents[varied], quantizer.latents(quantizer.symbols(fitted.latents))[varied])
    assert not weights


@pytest.mark.parametrize("progressive", [False, True])
def test_the_least_effort_is_nearest_around_what_is_guessed(make_base: MakeBase, *, progressive: bool) -> None:
    base = make_base(2, 1)
    fitted = _fitted(base)
    (latents,), (weights,) = round_signals(base, 5, [fitted], EFFORT_STEPS[0], contexts=True, progressive=progressive)
    varied = fitted.latents.any(axis=1)
    assert not varied[0]
    assert varied[1:].all()
    off = latents[varied] - np.ldexp(fitted.latents[varied].astype(float), LATENT_FRACTION)
    assert np.abs(off).max() <= base.steps[5] / 2 + 1
    code = LatentCode(base.prior, 5, base.steps[5], progressive)
    known = _known(base, fitted)
    deviations = np.where(varied[:, None], latents - base.centers, known.deviations)
    np.testing.assert_array_equal(code.decode(code.encode(known, deviations, weights), known), deviations)


def _known(base: Base, fitted: Fitted) -> Known:
    """What is known of the patches of `fitted` in their one chunk."""
    constant, colours = one_colour(base, fitted.levels, fitted.lay)
    return known_of(base.prior, constant, colours, frame_of(base, [fitted.lay], [0, len(constant)], 0, len(constant)))


def test_refinement_makes_up_for_rounding(make_former: MakeBase) -> None:
    base = make_former(2, 1)
    fitted = _fitted(base)
    rounded, refined = (round_signals(base, 4, [fitted], Effort(2, refinements), contexts=True)[0][0] for refinements in (0, 6))
    assert _mean_error(base, fitted, refined) < _mean_error(base, fitted, rounded)


@pytest.mark.parametrize("bits", [4, 6])
def test_refinement_of_predicted_latents_costs_no_more(make_base: MakeBase, bits: int) -> None:
    """By its own measure; where latents are linear and as far apart as their errors, it has nothing to find."""
    base = make_base(2, 1)
    fitted = _fitted(base)
    known, step = _known(base, fitted), base.steps[bits] / 2**LATENT_FRACTION
    code = LatentCode(base.prior, bits, base.steps[bits])

    def cost(refinements: int) -> float:
        (latents,), (weights,) = round_signals(base, bits, [fitted], Effort(2, refinements), contexts=True)
        deviations = np.where(known.constant[:, None], known.deviations, latents - base.centers)
        values = code.scan(known, weights, lambda rows, band, _, guesses: (deviations[rows, band] - guesses) // code.step)[0]
        told = float(PredictedCode(code, known, weights).seeing(values).bits.sum())
        return _mean_error(base, fitted, latents) * len(latents) + PRICE * step**2 * told

    found = [cost(refinements) for refinements in (0, 2, 6)]
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in pairwise(found))


@pytest.fixture(params=[False, True], ids=["in order of patches", "progressive"])
def predicted(request: pytest.FixtureRequest, make_base: MakeBase) -> tuple[PredictedCode, np.ndarray]:
    """The code of a chunk, of which a patch is of one colour and the others are on two frames, and latents in steps."""
    base, (y, x) = make_base(2, 1), np.indices((104, 112))
    levels = np.rint(127 + 60 * np.sin(x / 5) + 50 * np.sin(np.stack([y + x, y + x + 1]) / 3)).astype(np.int64)[..., None]
    levels[0, :8, :8] = 9
    lay = layout(levels.shape, 256, (8,))
    fitted = Fitted(levels, lay, fit_signal(base, levels, lay, 4))
    code, known = LatentCode(base.prior, 4, base.steps[4], request.param), _known(base, fitted)
    deviations = np.rint(np.ldexp(fitted.latents.astype(float), LATENT_FRACTION)).astype(np.int64) - base.centers
    assert known.layered
    return PredictedCode(code, known, fit_weights(base.prior, known, deviations)), deviations / code.step


def _traced(code: PredictedCode, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The context and the guess (P, L), in steps, of each of `values`."""
    contexts, guesses = np.zeros(values.shape, np.int64), np.zeros(values.shape)

    def visit(rows: np.ndarray, band: slice, expected: np.ndarray, guessed: np.ndarray) -> np.ndarray:
        contexts[rows, band], guesses[rows, band] = expected, guessed / code.code.step
        return values[rows, band]

    code.code.scan(code.known, code.weights, visit)
    return contexts, guesses


def test_predicted_latents_are_rounded_to_the_nearest(predicted: tuple[PredictedCode, np.ndarray]) -> None:
    code, wanted = predicted
    values, deviations = code.nearest(wanted)
    coded = ~code.known.constant
    assert np.abs(deviations / code.code.step - wanted)[coded].max() <= 0.5 + 1e-9
    np.testing.assert_allclose((_traced(code, values)[1] + values)[coded], (deviations / code.code.step)[coded])
    np.testing.assert_array_equal(deviations[~coded], code.known.deviations[~coded])
    assert not values[~coded].any()


def test_each_choice_costs_no_more_than_the_nearest_at_the_same_prices(predicted: tuple[PredictedCode, np.ndarray]) -> None:
    code, wanted = predicted
    prices = code.seeing(code.nearest(wanted)[0])
    values, _ = prices.choose(wanted)
    contexts, guesses = _traced(code, values)

    def cost(values: np.ndarray) -> np.ndarray:
        return np.square(wanted - guesses - values) + PRICE * prices.lengths[contexts, values]

    coded, near = ~code.known.constant, np.rint(wanted - guesses).astype(np.int64)
    assert (cost(values) <= cost(near))[coded].all()
    assert (values != near)[coded].any()
    assert (np.abs(values) <= np.abs(near))[coded].all()


def test_chosen_predicted_latents_take_fewer_bytes_and_cost_less(predicted: tuple[PredictedCode, np.ndarray]) -> None:
    code, wanted = predicted
    near = code.nearest(wanted)
    chosen = code.seeing(near[0]).choose(wanted)

    def size_of(deviations: np.ndarray) -> int:
        return len(code.code.encode(code.known, deviations, code.weights))

    def cost(deviations: np.ndarray) -> float:
        return float(np.square(wanted - deviations / code.code.step)[~code.known.constant].sum()) + PRICE * 8 * size_of(deviations)

    assert size_of(chosen[1]) < 0.95 * size_of(near[1])
    assert cost(chosen[1]) < cost(near[1])


def test_bits_of_predicted_latents_are_about_those_of_their_code(predicted: tuple[PredictedCode, np.ndarray]) -> None:
    code, wanted = predicted
    values, deviations = code.nearest(wanted)
    bits = code.seeing(values).bits
    assert bits.shape == (len(wanted),)
    assert not bits[code.known.constant].any()
    assert float(bits.sum()) == pytest.approx(8 * len(code.code.encode(code.known, deviations, code.weights)), rel=0.15)


def test_errors_are_those_of_the_network(make_either: MakeBase) -> None:
    base = make_either(2, 1)
    fitted = _fitted(base)
    losses, gradients = signal_errors(base, fitted.latents, fitted.levels, fitted.lay)
    assert losses[0] == 0
    assert not gradients[0].any()
    step, direction = 1e-3, np.random.default_rng(0).normal(size=base.latents).astype(np.float32)
    latents = fitted.latents + 0.05 * direction[::-1]  # where there is a gradient
    losses, gradients = signal_errors(base, latents, fitted.levels, fitted.lay)
    beyond, before = (signal_errors(base, latents + sign * step * direction, fitted.levels, fitted.lay)[0] for sign in (1, -1))
    np.testing.assert_allclose((beyond - before)[1:] / (4 * step), (gradients @ direction)[1:], atol=2e-3 * float(np.abs(gradients).max()) + 2e-4)


WAYS = {1: {"contexts": False}, 2: {"contexts": True}, 3: {"progressive": True}, 4: {}, 5: {"progressive": True}}


@pytest.mark.parametrize("version", VERSIONS)
def test_streams_of_every_effort_decode_to_what_was_measured(
    make_base: MakeBase, make_former: MakeBase, npy_bytes: Callable[[np.ndarray], bytes], version: int
) -> None:
    base = (make_base if version in PREDICTED else make_former)(2, 1)
    y, x = np.indices((120, 120))
    picture = np.rint(128 + (20 + y / 2) * np.sin((x + y) / 3) + 20 * np.sin(x / 9)).astype(np.uint8)
    works = [Work([read(npy_bytes(picture), "x.npy")], base, 3, effort=effort, **WAYS[version]) for effort in (1, 2, 5)]
    streams, costs = [encode_coinpp(work, Setting((8,), 5)) for work in works], []
    for coded in streams:
        assert coded.stream.version == version
        (signal,) = unpacked_signals(coded.data, base)
        np.testing.assert_array_equal(signal.values, coded.decoded[0])
        errors = np.square((coded.decoded[0][0, ..., 0] - picture.astype(float)) / 255).sum() / 64  # those of patches of 64 samples
        costs.append(errors + PRICE * (base.steps[5] / 2**LATENT_FRACTION) ** 2 * 8 * len(coded.data))
    assert costs[2] < costs[0]
    assert len(streams[1].data) < len(streams[0].data)
