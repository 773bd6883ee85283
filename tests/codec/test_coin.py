from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.coin import CoinConfig, CoinSymbols, _batches, architecture, fit, network, parameter_count, quantize, tensor_shapes
from compresskit.codec.exact import ACTIVATION_BITS, evaluate, grid
from compresskit.codec.siren import Siren, forward, init, to_integer
from compresskit.codec.sirengrad import TrainedSiren
from compresskit.errors import GuardError, InputError, TargetError, UsageError
from compresskit.progress import Silent

KODAK, CIFAR = 768 * 512, 32 * 32


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _picture() -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates and samples of a smooth 24 x 16 picture."""
    x = torch.from_numpy(grid((24, 16)) / 2**ACTIVATION_BITS).float()
    return x, torch.stack([torch.sin(3 * x[:, 0]), torch.cos(4 * x[:, 1]), x[:, 0] * x[:, 1]], dim=-1) / 2 + 0.5


def _psnr(samples: torch.Tensor, values: torch.Tensor) -> float:
    return -10 * math.log10(float(((samples - values) ** 2).mean()))


@pytest.mark.parametrize(
    ("points", "bpp", "width", "depth"),
    [
        *[(KODAK, 0.07, 20, 5), (KODAK, 0.15, 30, 5), (KODAK, 0.3, 28, 10), (KODAK, 0.6, 40, 10), (KODAK, 1.2, 49, 13)],
        *[(CIFAR, bpp, width, 2) for bpp, width in [(3.6, 12), (4.6, 14), (5.8, 16), (7.1, 18), (8.5, 20), (10.0, 22)]],
    ],
)
def test_a_rate_gives_the_network_of_the_thesis(points: int, bpp: float, width: int, depth: int) -> None:
    """Appendix C.2, whose rates are rounded to the digits given there."""
    bits = 16 * parameter_count(2, width, depth, 3)
    assert bits / points == pytest.approx(bpp, rel=0.07)
    assert architecture(bits, dims=2, channels=3, bits=16) == (width, depth)


@given(st.floats(2000, 1e7), st.integers(1, 4), st.integers(1, 4), st.integers(1, 16))
def test_the_widest_network_within_the_rate_is_taken(budget: float, dims: int, channels: int, bits: int) -> None:
    width, depth = architecture(budget, dims, channels, bits)
    assert bits * parameter_count(dims, width, depth, channels) <= budget < bits * parameter_count(dims, width + 1, depth, channels)


def test_a_rate_for_no_network_is_a_missed_target() -> None:
    with pytest.raises(TargetError, match=r"^no network fits in 100 bits: the smallest takes 176; raise the rate$"):
        architecture(100, dims=2, channels=3, bits=16)


def test_parameters_are_those_of_the_network() -> None:
    siren = init(3, 7, 4, 2, 30.0, _generator())
    tensors = [tensor for pair in zip(siren.weights, siren.biases, strict=True) for tensor in pair]
    assert tensor_shapes(3, 7, 4, 2) == [tuple(tensor.shape) for tensor in tensors]
    assert parameter_count(3, 7, 4, 2) == sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize("batch", [2**10, 100], ids=["all points at once", "in batches"])
def test_a_fit_learns_and_is_repeatable(batch: int) -> None:
    x, y = _picture()
    config = CoinConfig(width=16, depth=2, steps=200, lr=5e-3, batch=batch)
    siren, again = (fit(x, y, config, _generator()) for _ in range(2))
    assert _psnr(y, forward(siren, x)) > 30
    assert all(torch.equal(a, b) and not a.requires_grad for a, b in zip(siren.weights, again.weights, strict=True))


def test_the_best_network_is_kept() -> None:
    class Watched(Silent):
        psnr: float = 0

        def advance(self, steps: int = 1, **figures: float) -> None:
            self.psnr = figures["psnr"]

    x, y = _picture()
    progress = Watched()
    # So high a rate that the fit gets worse after its first check.
    siren = fit(x, y, CoinConfig(width=16, depth=3, steps=300, lr=0.05), _generator(), progress)
    assert _psnr(y, forward(siren, x).clamp(0, 1)) == pytest.approx(progress.psnr, abs=1e-4)


def test_a_fit_that_diverges_is_a_failed_guard() -> None:
    x, y = _picture()
    with pytest.raises(GuardError, match=r"^the fit diverged within 50 steps: lower the learning rate$"):
        fit(x, y * math.nan, CoinConfig(width=8, depth=1, steps=60), _generator())


@pytest.mark.parametrize(("points", "updates"), [(1, 1), (100, 1), (299, 2), (10**6, 3)])
def test_a_step_looks_at_so_many_points_of_the_signal(points: int, updates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(TrainedSiren, "gradient", lambda self, x, y: seen.append(x.shape[1]))
    fit(*_picture(), CoinConfig(width=2, depth=1, steps=5, points=points, batch=100), _generator())
    assert seen == [100] * updates * 5


@given(st.integers(1, 300), st.data())
def test_batches_see_everything_and_spread_evenly(count: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, count))
    batches = _batches(count, size, _generator(count))
    assert set(torch.cat(batches).tolist()) == set(range(count))
    stretches = torch.arange(size + 1) * count / size
    for rows in batches:
        assert len(rows) == size
        assert (stretches[:-1].floor() <= rows).all()
        assert (rows < stretches[1:].ceil()).all()


@pytest.mark.parametrize("changes", [{"width": 0}, {"depth": 0}, {"steps": 0}, {"points": 0}, {"batch": 0}, {"omega": 0.0}, {"lr": -1.0}], ids=str)
def test_a_config_without_a_network_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="at least 1 layer"):
        dataclasses.replace(CoinConfig(width=1, depth=1, steps=1), **changes)  # type: ignore[arg-type]


@st.composite
def _quantized(draw: st.DrawFn) -> tuple[Siren, CoinSymbols, tuple[int, int, int, int]]:
    sizes = draw(st.integers(1, 4)), draw(st.integers(1, 12)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    siren = init(*sizes, 30.0, _generator(draw(st.integers(0, 1000))))
    siren = dataclasses.replace(siren, weights=tuple(weight * 2.0 ** draw(st.integers(-9, 3)) for weight in siren.weights))
    return siren, quantize(siren, draw(st.integers(1, 16))), sizes


@given(_quantized())
def test_a_weight_moves_by_half_a_bin_or_to_the_end_of_its_range(case: tuple[Siren, CoinSymbols, tuple[int, int, int, int]]) -> None:
    siren, symbols, sizes = case
    found = network(symbols, *sizes)
    for index, (exact, layer) in enumerate(zip(to_integer(siren, 22).layers, found.layers, strict=True)):
        assert layer.fraction == exact.fraction
        for tensor, (before, after) in enumerate([(exact.weight, layer.weight), (exact.bias, layer.bias)]):
            low, step = symbols.lows[2 * index + tensor], symbols.steps[2 * index + tensor]
            nearest = np.clip(before, low, low + step * 2**symbols.bits)
            assert (2 * np.abs(after - nearest) <= step + 1).all()


@given(_quantized())
def test_the_network_follows_from_the_integers_alone(case: tuple[Siren, CoinSymbols, tuple[int, int, int, int]]) -> None:
    """So that the decoder makes what the encoder has measured."""
    _, symbols, sizes = case
    centres = [
        [low + int(symbol) * step + step // 2 for symbol in tensor]
        for tensor, low, step in zip(symbols.symbols, symbols.lows, symbols.steps, strict=True)
    ]
    layers = network(symbols, *sizes).layers
    assert [tensor.reshape(-1).tolist() for layer in layers for tensor in (layer.weight, layer.bias)] == centres
    assert tuple(layer.fraction for layer in layers) == symbols.fractions


def test_sixteen_bits_cost_nothing_and_eight_a_lot() -> None:
    x, y = _picture()
    siren = fit(x, y, CoinConfig(width=16, depth=2, steps=600, lr=5e-3), _generator())

    def psnr(bits: int) -> float:
        levels = evaluate(network(quantize(siren, bits), 2, 16, 2, 3), grid((24, 16)), None, 2**16)[0]
        return _psnr(y, torch.from_numpy(levels / (2**16 - 1)))

    fitted = _psnr(y, forward(siren, x).clamp(0, 1))
    assert psnr(16) == pytest.approx(fitted, abs=0.1)
    assert fitted - 20 < psnr(8) < fitted - 0.5


@pytest.mark.parametrize("bits", [8, 16])
def test_a_weight_far_from_all_others_is_kept_where_bins_are_fine(bits: int) -> None:
    """Ten deviations out, it would be cut to six; with few bins all others would pay for it."""
    siren = init(2, 32, 2, 1, 30.0, _generator())
    weight = siren.weights[1].clone()
    weight[0, 0] = 10 * weight.std()
    siren = dataclasses.replace(siren, weights=(siren.weights[0], weight, siren.weights[2]))
    exact, layer = to_integer(siren, 22).layers[1], network(quantize(siren, bits), 2, 32, 2, 1).layers[1]
    errors = np.abs(exact.weight - layer.weight)
    cut_off = exact.weight[0, 0] - 6 * exact.weight.std()
    assert errors[0, 0] < 0.01 * cut_off
    assert np.square(errors).sum() < cut_off**2


@given(st.floats(-2, 2), st.integers(1, 16))
def test_a_tensor_of_one_value_is_exact(value: float, bits: int) -> None:
    siren = init(1, 3, 1, 1, 30.0, _generator())
    siren = dataclasses.replace(siren, biases=(torch.full((3,), value), torch.full((1,), value)))
    for exact, layer in zip(to_integer(siren, 22).layers, network(quantize(siren, bits), 1, 3, 1, 1).layers, strict=True):
        assert np.array_equal(exact.bias, layer.bias)


def _symbols(**changes: object) -> CoinSymbols:
    """Those of a network of 1 coordinate, width 2, depth 1 and 1 channel, with `changes`."""
    symbols = tuple(np.zeros(size, np.int32) for size in (2, 2, 2, 1))
    return dataclasses.replace(CoinSymbols(symbols, (0,) * 4, (1,) * 4, (8, 8), 8), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 0}, "symbols of 0 bits: 1 to 16 are possible"),
        ({"bits": 17}, "symbols of 17 bits"),
        ({"lows": (0,) * 3}, "differ in number"),
        ({"fractions": (8,)}, "differ in number"),
        ({"symbols": tuple(np.full(size, 256, np.int32) for size in (2, 2, 2, 1))}, "symbols beyond 8 bits"),
        ({"symbols": tuple(np.full(size, -1, np.int32) for size in (2, 2, 2, 1))}, "symbols beyond 8 bits"),
        ({"steps": (1, 1, 1, 0)}, "without a positive step"),
        ({"steps": (1, 1, 1, 2**60)}, "within 62 bits"),
        ({"lows": (-(2**62), 0, 0, 0)}, "within 62 bits"),
    ],
    ids=range(9),
)
def test_symbols_of_no_network_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _symbols(**changes)


@pytest.mark.parametrize("sizes", [(1, 2, 2, 1), (1, 2, 10**12, 1), (2, 2, 1, 1), (1, 10**12, 1, 1), (1, 2, 1, 2)], ids=str)
def test_symbols_of_another_network_are_refused(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match=r"do not fit .* layers of width .*: the file is corrupt"):
        network(_symbols(), *sizes)


def test_a_range_beyond_exactness_is_refused() -> None:
    assert network(_symbols(), 1, 2, 1, 1).width == 2
    with pytest.raises(InputError, match="exact decoding needs magnitudes below"):
        network(_symbols(lows=(2**23, 0, 0, 0)), 1, 2, 1, 1)
