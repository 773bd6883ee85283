from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from compresskit.data import Dataset
from compresskit.errors import TargetError, UsageError
from compresskit.quantization.bitwidths.control import Control
from compresskit.quantization.bitwidths.cost import WIDTHS, width_cost
from compresskit.quantization.bitwidths.learn import Mixed, learn_widths, level_grids
from compresskit.quantization.bitwidths.nested import Nested, nested_grid, residual_noise
from compresskit.quantization.bitwidths.search import GatedNetwork, starting_gates
from compresskit.quantization.config import Quantity, QuantizeConfig
from compresskit.quantization.quantized import Quantized
from compresskit.training.tuning import Checkpointing

Learn = Callable[..., Mixed]


@pytest.fixture
def learned(start: Quantized, data: Dataset, config: QuantizeConfig) -> Learn:
    def learn(goal: float, quantity: Quantity = "size", **more: object) -> Mixed:
        return learn_widths(start, data, config, quantity, goal, **more)  # type: ignore[arg-type]

    return learn


@pytest.mark.parametrize(("quantity", "goal"), [("size", 0.15), ("size", 0.2), ("bit-ops", 0.035)])
def test_targets_are_hit(learned: Learn, start: Quantized, quantity: Quantity, goal: float) -> None:
    mixed = learned(goal, quantity)
    assert 0.98 * goal <= mixed.reached <= goal
    assert mixed.reached == width_cost(start.network, start.plan.layers, quantity, 8).of(mixed.widths)  # type: ignore[union-attr]
    assert set(mixed.widths.values()) <= set(WIDTHS)


def test_widths_are_stored_as_such(learned: Learn) -> None:
    mixed = learned(0.2)
    assert len(set(mixed.widths.values())) > 1
    stored = {tensor.name: tensor.data_type for tensor in mixed.done.model.graph.initializer}
    kinds = {2: TensorProto.INT2, 4: TensorProto.INT4, 8: TensorProto.INT8}
    for name, width in mixed.widths.items():
        assert stored[f"{name}_quantized"] == kinds[width]
        assert mixed.done.weights[name].bits in (width, width - (width == 8))
    onnx.checker.check_model(mixed.done.model, full_check=True)
    assert mixed.done.integrity is not None
    assert mixed.done.integrity.equal >= 0.999


def test_the_path_goes_down_to_the_target(learned: Learn) -> None:
    path = learned(0.12).path
    assert path[-1].done == 1
    assert path[-1].cost <= 0.12
    assert [point.cost for point in path] == sorted((point.cost for point in path), reverse=True)


def test_targets_that_widths_cannot_reach(learned: Learn, start: Quantized, data: Dataset, config: QuantizeConfig) -> None:
    cost = width_cost(start.network, start.plan.layers, "size", 8)  # type: ignore[union-attr]
    with pytest.raises(TargetError, match=f"2 bits everywhere come to {cost.floor:.4f}"):
        learned(0.05)
    with pytest.raises(UsageError, match="ask for less"):
        learned(0.5)
    with pytest.raises(UsageError, match="--epochs"):
        learn_widths(start, data, replace(config, epochs=0.0), "size", 0.15)


def test_everything_at_the_floor_is_2_bits(learned: Learn, start: Quantized) -> None:
    floor = width_cost(start.network, start.plan.layers, "size", 8).floor  # type: ignore[union-attr]
    assert set(learned(floor).widths.values()) == {2}


def test_an_interrupted_run_goes_on_to_the_same_network(learned: Learn, tmp_path: Path) -> None:
    whole = learned(0.15)
    kept = Checkpointing(tmp_path / "state", minutes=0)
    with pytest.raises(KeyboardInterrupt):
        learned(0.15, kept=kept, progress=_Impatient(8))
    resumed = learned(0.15, kept=replace(kept, resume=True))
    assert resumed.widths == whole.widths
    assert resumed.done.model.SerializeToString() == whole.done.model.SerializeToString()


class _Impatient:
    """A person who presses Ctrl-C after some steps of training."""

    def __init__(self, steps: int) -> None:
        self.left, self.training = steps, False

    def stage(self, name: str, total: int | None = None) -> None:
        self.training = name == "train"

    def note(self, message: str) -> None: ...

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.left -= steps * self.training
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("gates", [(1, 1), (1, 0), (0, 0), (0, 1)])
def test_nested_weights_are_those_of_one_width_where_gates_are_0_or_1(gates: tuple[int, int]) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    grids = [nested_grid(weight, bits, 0) for bits in WIDTHS]
    mask = torch.nn.Parameter(torch.tensor([[1.0, 1.0], list(map(float, gates))]))
    found = Nested(grids, mask, 1)(torch.from_numpy(weight)).detach().numpy()
    wanted = grids[0 if not gates[0] else 1 + gates[1]].round_trip(weight)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_gradient_of_a_gate_is_the_residual_and_that_of_a_weight_passes_straight_through() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    grids = [nested_grid(weight, bits, 0) for bits in WIDTHS]
    mask, given = torch.nn.Parameter(torch.tensor([[0.5, 0.25]])), torch.from_numpy(weight).requires_grad_()
    slope = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    (Nested(grids, mask, 0)(given) * slope).sum().backward()
    coarse, middle, fine = (torch.from_numpy(grid.round_trip(weight)) for grid in grids)
    expected = [((middle - coarse + 0.25 * (fine - middle)) * slope).sum(), (0.5 * (fine - middle) * slope).sum()]
    assert torch.allclose(mask.grad[0], torch.stack(expected), atol=1e-5)  # type: ignore[index]
    assert given.grad is not None
    inside = np.abs(weight) < grids[0].scale[:, None] * 1.5  # what no level clips
    np.testing.assert_allclose(given.grad.numpy()[inside], slope.numpy()[inside], atol=1e-6)


def test_three_levels_end_where_the_error_is_least() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)
    best, whole = nested_grid(weight, 2, 0), nested_grid(weight, 4, 0)
    errors = {scale: ((np.clip(np.rint(weight / scale), -1, 1) * scale - weight) ** 2).sum(axis=1) for scale in np.linspace(0.2, 3.5, 200)}
    least = np.stack(list(errors.values())).min(axis=0)
    found = ((best.round_trip(weight) - weight) ** 2).sum(axis=1)
    assert (found <= 1.05 * least).all()
    assert np.allclose(whole.scale * 7, np.abs(weight).max(axis=1))
    assert nested_grid(weight, 2, 0, least=np.full(5, 9.0)).scale.min() == 9


def test_gates_begin_in_the_order_of_noise_for_what_they_save(start: Quantized) -> None:
    cost = width_cost(start.network, start.plan.layers, "size", 8)  # type: ignore[union-attr]
    grids = level_grids(start, 8)
    gates = starting_gates(start, grids, cost)
    assert gates.shape == (5, 2)
    assert 0.2 < gates.min() < gates.max() < 1
    noise = np.stack([residual_noise(start.network.constants[name], grids[name]) for name in cost.names]) / cost.steps
    assert np.array_equal(noise.ravel().argsort(), gates.numpy().ravel().argsort())


def test_open_gates_compute_what_8_bits_do(start: Quantized, data: Dataset) -> None:
    grids = level_grids(start, 8)
    module = GatedNetwork(start, grids, torch.ones(5, 2), torch.zeros(4, 3), (3, 8, 8)).eval()
    assert [parameter.shape for parameter in module.parameter_groups(0.1)[2]["params"]] == [(5, 2)]
    names = [name for name, _ in module.named_parameters()]
    assert sum("mask" in name for name in names) == 1
    x = torch.from_numpy(data.validation.x[:8])
    from compresskit.models.sessions import run

    (wanted,) = run(start.model.SerializeToString(), {"x": x.numpy()})
    np.testing.assert_allclose(module(x).detach().numpy(), wanted, atol=0.35)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_control_brings_the_cost_down_a_straight_line(start: Quantized, steps: int) -> None:
    cost = width_cost(start.network, start.plan.layers, "size", 8)  # type: ignore[union-attr]
    mask = torch.rand(5, 2, generator=torch.Generator().manual_seed(0)) + 0.2
    log = torch.zeros(min(4, steps), 3)
    control = Control(mask, log, cost, 0.12, steps, 0.01)
    for step in range(1, steps + 1):
        control(step)
        assert cost.standing(mask) <= cost.ceiling - (cost.ceiling - 0.12) * step / steps + 1e-6
        assert mask.min() >= 0
        assert not (mask[:, 1] > 0)[mask[:, 0] == 0].any()
    assert log[-1, 1] <= 0.12
    assert (log[:, 1] > 0).all()
